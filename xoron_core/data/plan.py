"""The plan: which row comes next, a pure function of seed and position.

Modality by weight, source by weight, row by a shuffle that is a function of (seed, source, round). Shares are kept by
smooth weighted round-robin, so that any stretch of draws is mixed as asked. An epoch ends when every source is
exhausted; an exhausted source, or a modality all of whose sources are, is left out until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from xoron_core.data.records import Ticket, derive_seed

K = TypeVar("K")


@dataclass(frozen=True)
class PlannedSource:
    """What the plan must know of a source."""

    name: str
    modality: str
    weight: float
    num_rows: int
    repeat: int = 1

    @property
    def num_draws(self) -> int:
        """Rows it gives in an epoch."""
        return self.num_rows * self.repeat


class Plan:
    """Hands out tickets; its state is a few numbers a source."""

    def __init__(self, sources: Sequence[PlannedSource], weights: dict[str, float], seed: int) -> None:
        self.sources = list(sources)
        self.weights = weights
        self.seed = seed
        self.epoch = 0
        self._drawn = [0] * len(self.sources)
        self._modality_credit = dict.fromkeys(weights, 0.0)
        self._source_credit = [0.0] * len(self.sources)
        self._orders: dict[int, tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]]] = {}

    def has_rows(self, modality: str) -> bool:
        """Whether this epoch has a row of the modality left."""
        return any(self._is_open(index) for index, source in enumerate(self.sources) if source.modality == modality)

    @property
    def is_exhausted(self) -> bool:
        """Whether the epoch is over."""
        return not any(self._is_open(index) for index in range(len(self.sources)))

    def start_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; credits go on, so that shares hold across its border."""
        self.epoch = epoch
        self._drawn = [0] * len(self.sources)

    def next_modality(self) -> str:
        """The modality of the next micro-batch, among those that have rows left."""
        open_weights = {name: weight for name, weight in self.weights.items() if self.has_rows(name)}
        return _draw(open_weights, self._modality_credit)

    def next_ticket(self, modality: str) -> Ticket:
        """The next row of a modality that has one left."""
        credit = dict(enumerate(self._source_credit))
        chosen = _draw(
            {
                index: source.weight
                for index, source in enumerate(self.sources)
                if source.modality == modality and self._is_open(index)
            },
            credit,
        )
        self._source_credit = [credit[index] for index in range(len(self.sources))]
        position = self._drawn[chosen]
        self._drawn[chosen] += 1
        source = self.sources[chosen]
        row = int(self._order(chosen)[position % source.num_rows])
        seed = derive_seed(self.seed, source.name, self.epoch, row, position // source.num_rows)
        return Ticket(modality, chosen, row, seed)

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain data."""
        return {
            "epoch": self.epoch,
            "sources": {
                source.name: {"drawn": self._drawn[index], "credit": self._source_credit[index]}
                for index, source in enumerate(self.sources)
            },
            "modalities": dict(self._modality_credit),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position. A source or modality that the state does not know starts at its beginning."""
        self.epoch = state["epoch"]
        for index, source in enumerate(self.sources):
            saved = state["sources"].get(source.name, {"drawn": 0, "credit": 0.0})
            self._drawn[index] = saved["drawn"]
            self._source_credit[index] = saved["credit"]
        for name in self._modality_credit:
            self._modality_credit[name] = state["modalities"].get(name, 0.0)

    def _is_open(self, index: int) -> bool:
        return self._drawn[index] < self.sources[index].num_draws

    def _order(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The rows of a source in the order of this round through it."""
        source = self.sources[index]
        round_ = (self.epoch * source.repeat) + (self._drawn[index] - 1) // source.num_rows
        cached = self._orders.get(index)
        if cached is None or cached[0] != round_:
            generator = np.random.Generator(np.random.PCG64(derive_seed(self.seed, "order", source.name, round_)))
            cached = (round_, generator.permutation(source.num_rows))
            self._orders[index] = cached
        return cached[1]


def _draw(weights: dict[K, float], credit: dict[K, float]) -> K:
    """Smooth weighted round-robin: everyone earns its weight, the richest is drawn and pays the sum."""
    for key, weight in weights.items():
        credit[key] += weight
    chosen = max(weights, key=lambda key: credit[key])
    credit[chosen] -= sum(weights.values())
    return chosen

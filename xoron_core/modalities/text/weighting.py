"""How much each token of a document counts in the loss, and which groups it belongs to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xoron_core.contract.modalities.text import TextConfig
from xoron_core.contract.special_tokens import (
    CLOSER_ALIASES,
    CONVERSATION,
    EOS,
    GROUPS,
    UNPAIRED,
    closing,
    opening,
)
from xoron_core.data.tokenizer import Tokenizer

GROUP_TERMS: Mapping[str, str] = {
    "reasoning": "cot_loss",
    "tool": "tool_loss",
    "anti_hallucination": "anti_hallucination_loss",
    "code_execution": "code_exec_loss",
}
"""Group → the name of its loss, in the order of the bits of a group mask."""

LASTS_TO_END_OF_TURN = "beyond_knowledge"


@dataclass(frozen=True)
class WeightedTokens:
    """Per token: its weight (float32 [T]) and its groups, a bit each in the order of `GROUP_TERMS` (uint8 [T])."""

    weights_T: npt.NDArray[np.float32]
    groups_T: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Tag:
    """What a special token does; `groups` and `weight` (the largest) are those of its name, none outside the groups."""

    name: str
    opens: bool
    closes: frozenset[str] = frozenset()
    ends_turn: bool = False
    groups: int = 0
    weight: float = 1.0

    @property
    def stands_alone(self) -> bool:
        """Whether it opens nothing and closes nothing, and carries its groups itself."""
        return self.groups > 0 and not self.opens and not self.closes


class _Block(NamedTuple):
    """An open block: its name, and the groups and largest weight of all that are open up to it."""

    name: str
    groups: int
    weight: float


_OUTSIDE = _Block("", 0, 1.0)


class TokenWeighting:
    """Weights in token form (the tags themselves, groups multiply) or in block form (the tokens inside a block, its
    closing tag included, by the largest weight of the open blocks).

    A block ends at its closer, at the closer of a block around it, at an alias, or at the end of the turn. A tag that
    opens nothing (`<|confidence:low|>`) carries its group's weight itself.
    """

    def __init__(self, config: TextConfig, tokenizer: Tokenizer) -> None:
        self.form = config.weighting
        group_weights = {
            "reasoning": config.cot_loss_weight,
            "tool": config.tool_loss_weight,
            "anti_hallucination": config.anti_hallucination_loss_weight,
            "code_execution": config.code_exec_loss_weight,
        }
        groups: dict[str, int] = {}
        weights: dict[str, list[float]] = {}
        for bit, group in enumerate(GROUP_TERMS):
            for name in GROUPS[group]:
                groups[name] = groups.get(name, 0) | 1 << bit
                weights.setdefault(name, []).append(group_weights[group])
        self._tags: dict[int, _Tag] = {}
        self._is_tag = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
        self.token_weights = np.ones(tokenizer.vocab_size, dtype=np.float32)
        """Of every id in token form."""
        for token, tag in _tags(groups):
            number = tokenizer.token_id(token)
            own = weights.get(tag.name, [1.0])
            self._tags[number] = replace(tag, groups=groups.get(tag.name, 0), weight=max(own))
            self._is_tag[number] = True
            self.token_weights[number] = prod(own)

    def __call__(self, ids: npt.NDArray[np.int64]) -> WeightedTokens:
        """Weights and groups of the tokens of one document."""
        ends, groups, weights = self._stretches(ids)
        lengths = np.array(ends)
        lengths[1:] -= lengths[:-1]  # numpy sees that they overlap
        groups_T = np.repeat(np.array(groups, dtype=np.uint8), lengths)
        if self.form == "token":
            return WeightedTokens(self.token_weights[ids], groups_T)
        return WeightedTokens(np.repeat(np.array(weights, dtype=np.float32), lengths), groups_T)

    def _stretches(self, ids: npt.NDArray[np.int64]) -> tuple[list[int], list[int], list[float]]:
        """Stretches of tokens inside the same blocks: where each ends, its groups and its largest weight. A tag belongs
        to what is open before it."""
        positions = np.flatnonzero(self._is_tag[ids])
        ends: list[int] = []
        groups: list[int] = []
        weights: list[float] = []

        def end(at: int, block: _Block) -> None:
            ends.append(at)
            groups.append(block.groups)
            weights.append(block.weight)

        open_blocks = [_OUTSIDE]
        for position, number in zip(positions.tolist(), ids[positions].tolist(), strict=True):
            tag, top = self._tags[number], open_blocks[-1]
            if tag.stands_alone:
                end(position, top)
                end(position + 1, _inside(top, tag))
            elif tag.opens:
                end(position + 1, top)
                open_blocks.append(_inside(top, tag))
            elif (depth := _closed(open_blocks, tag)) is not None:
                end(position + 1, top)
                del open_blocks[depth:]
        end(len(ids), open_blocks[-1])
        return ends, groups, weights


def group_ids(tokenizer: Tokenizer, group: str) -> frozenset[int]:
    """The ids of the tags of a group's blocks, opening and closing."""
    names = GROUPS[group]
    tags = [*map(opening, names), *(closing(name) for name in names if name not in UNPAIRED)]
    return frozenset(map(tokenizer.token_id, tags))


def begins_inside(starts_T: npt.NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Which tokens [T], that begin at these characters, do so inside one of the spans (starts and ends, ascending)."""
    bounds = np.array(spans, dtype=np.int64).reshape(-1, 2)
    before = np.searchsorted(bounds[:, 0], starts_T, side="right")
    ends = np.concatenate([[0], bounds[:, 1]])
    return np.asarray(starts_T < ends[before])


def _inside(around: _Block, tag: _Tag) -> _Block:
    weight = tag.weight if around is _OUTSIDE else max(around.weight, tag.weight)
    return _Block(tag.name, around.groups | tag.groups, weight)


def _closed(open_blocks: list[_Block], tag: _Tag) -> int | None:
    """The depth of the outermost block that a tag closes; None where it closes none."""
    if tag.ends_turn:
        return 1
    return next((at for at in range(len(open_blocks) - 1, 0, -1) if open_blocks[at].name in tag.closes), None)


def _tags(grouped: Iterable[str]) -> list[tuple[str, _Tag]]:
    """Every token that opens, closes or ends something, and those that carry a weight themselves."""
    tags = [(closing(name), _Tag(name, opens=False, ends_turn=True)) for name in CONVERSATION]
    tags.append((EOS, _Tag("eos", opens=False, ends_turn=True)))
    for name in grouped:
        opens = name not in UNPAIRED or name == LASTS_TO_END_OF_TURN
        tags.append((opening(name), _Tag(name, opens=opens)))
        if name not in UNPAIRED:
            aliases = {block for block, closer in CLOSER_ALIASES.items() if closer == name}
            tags.append((closing(name), _Tag(name, opens=False, closes=frozenset({name} | aliases))))
    return tags

"""What the ranks of a run tell each other, and the rank that is alone.

All ranks call the same things in the same order. Whoever is alone loads no torch for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from xoron_core.contract.errors import XoronError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

T = TypeVar("T")
Terms = dict[str, "tuple[Tensor, Tensor]"]
"""Name → (sum, count), scalars."""


class PeerLostError(XoronError):
    """Another rank went away; why, only that one knows."""


class Ranks(ABC):
    """One process's view of all of them. Whatever is exchanged raises PeerLostError when another is gone."""

    rank: int
    local_rank: int
    world_size: int

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes the run's files."""
        return self.rank == 0

    @abstractmethod
    def largest(self, number: int) -> int:
        """The largest of all ranks' numbers."""

    @abstractmethod
    def gather(self, item: T) -> list[T]:
        """Every rank's item, in the order of ranks. Items are small and plain data."""

    @abstractmethod
    def sum_terms(self, terms: Sequence[Terms]) -> Sequence[Terms]:
        """Sums and counts of all ranks by position and name; a name that a rank lacks counts nothing there."""

    @abstractmethod
    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over ranks, the same on all of them."""

    @abstractmethod
    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Replace gradients by their sums. A parameter that has none anywhere stays without one."""

    @abstractmethod
    def close(self) -> None:
        """Leave; the others do so, too."""


class Alone(Ranks):
    """The only rank: everything is as it is."""

    rank = local_rank = 0
    world_size = 1

    def largest(self, number: int) -> int:
        """Its own."""
        return number

    def gather(self, item: T) -> list[T]:
        """Its own."""
        return [item]

    def sum_terms(self, terms: Sequence[Terms]) -> Sequence[Terms]:
        """Its own, untouched."""
        return terms

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to add."""

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Nothing to add."""

    def close(self) -> None:
        """Nobody to leave."""

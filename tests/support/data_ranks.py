"""Several data sets that follow one plan, side by side in threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

from xoron_core.data.dataset import DataShare, TrueStreamingDataset
from xoron_core.data.records import Drawn, MicroBatch
from xoron_core.data.runner import Here

Found = Drawn[MicroBatch]


class Ranks:
    """Several data sets that follow one plan, a thread each."""

    def __init__(self, make: Callable[[DataShare], TrueStreamingDataset], num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self._barrier = threading.Barrier(num_ranks, timeout=30)
        self._items: list[Any] = [None] * num_ranks
        self._resources = ExitStack()
        self.datasets = [self._resources.enter_context(closing(make(self._share(rank)))) for rank in range(num_ranks)]

    def _share(self, rank: int) -> DataShare:
        def exchange(item: Any) -> list[Any]:
            self._items[rank] = item
            self._barrier.wait()
            items = list(self._items)
            self._barrier.wait()
            return items

        return DataShare(rank, self.num_ranks, exchange)

    def run(self, take: Callable[[Iterator[Found]], list[Found]]) -> list[list[Found]]:
        """What `take` takes of each rank's micro-batches, side by side."""
        found: list[list[Found]] = [[] for _ in self.datasets]

        def follow(rank: int) -> None:
            try:
                found[rank] = take(steps(self.datasets[rank]))
            except BaseException:
                self._barrier.abort()
                raise

        threads = [threading.Thread(target=follow, args=(rank,)) for rank in range(self.num_ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._resources.close()
        return found


def steps(dataset: TrueStreamingDataset) -> Iterator[Found]:
    """Micro-batches without end, prepared here."""
    return dataset.follow(Here(dataset.preparation, lambda micro: micro, lambda: None))


def until_epoch_ends(found: Iterator[Found]) -> list[Found]:
    """The micro-batches of this epoch that are left."""
    taken = []
    for drawn in found:
        taken.append(drawn)
        if drawn.ends_epoch:
            break
    return taken

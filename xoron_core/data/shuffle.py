"""The order of a source's rows: a pure function of seed, round and place, whatever their number.

Windows of neighbouring rows are shuffled in themselves and among one another, so that nothing as long as the source is
ever made, and rows that are stored together are read together.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xoron_core.data.records import derive_seed


class RowOrder:
    """The order of `num_rows` rows in each round through them.

    `blocks`: the rows where parts begin that are read together; no window crosses their borders. `window`: most rows of
    a window; 1 leaves rows in their own order.
    """

    def __init__(self, seed: int, name: str, num_rows: int, blocks: Sequence[int], window: int) -> None:
        self.seed = seed
        self.name = name
        self.num_rows = num_rows
        self.window = window
        self._begins = _window_begins(num_rows, blocks, window)
        self._round = -1
        self._windows = self._ends = np.zeros(0, dtype=np.int64)
        self._rows: tuple[tuple[int, int], npt.NDArray[np.int64]] = ((-1, -1), self._ends)

    def row(self, round_: int, place: int) -> int:
        """The row at a place of a round."""
        if self.window == 1:
            return place
        if round_ != self._round:
            sizes = np.diff(self._begins, append=self.num_rows)
            self._windows = self._shuffled("windows", round_).permutation(len(self._begins))
            self._ends = np.cumsum(sizes[self._windows])
            self._round = round_
        turn = int(np.searchsorted(self._ends, place, side="right"))
        window = int(self._windows[turn])
        begin = int(self._begins[window])
        if self._rows[0] != (round_, window):
            end = int(self._begins[window + 1]) if window + 1 < len(self._begins) else self.num_rows
            self._rows = ((round_, window), self._shuffled("rows", round_, window).permutation(end - begin))
        first = int(self._ends[turn - 1]) if turn else 0
        return begin + int(self._rows[1][place - first])

    def _shuffled(self, *parts: object) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(derive_seed(self.seed, "order", self.name, *parts)))


def _window_begins(num_rows: int, blocks: Sequence[int], window: int) -> npt.NDArray[np.int64]:
    if window == 1:
        return np.zeros(1, dtype=np.int64)
    ends = [*blocks[1:], num_rows]
    parts = [np.arange(begin, end, window, dtype=np.int64) for begin, end in zip(blocks, ends, strict=True)]
    return np.concatenate(parts)

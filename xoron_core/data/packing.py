"""Packing documents of one modality into rows of a fixed length."""

import sys
from collections.abc import Iterable, Sequence


class RowPacker:
    """Fills rows in the order of arrival: what does not fit into a row begins the next one."""

    def __init__(self, num_rows: int, row_length: int) -> None:
        self.num_rows = num_rows
        self.row_length = row_length
        self.rows: list[list[int]] = [[]]
        self._used = 0
        self._count = 0

    def add(self, length: int) -> bool:
        """Place the next piece; False when it fits into no row that is left, and nothing has changed then."""
        if self._used + length > self.row_length:
            if len(self.rows) == self.num_rows:
                return False
            self.rows.append([])
            self._used = 0
        self.rows[-1].append(self._count)
        self._used += length
        self._count += 1
        return True


def count_rows(lengths: Iterable[int], row_length: int) -> int:
    """Rows that documents of these lengths take in this order, those longer than a row in pieces."""
    packer = RowPacker(sys.maxsize, row_length)
    for length in lengths:
        for start in range(0, length, row_length):
            packer.add(min(row_length, length - start))
    return len(packer.rows)


def pack(lengths: Sequence[int], num_rows: int, row_length: int) -> list[list[int]]:
    """The rows, as positions in `lengths`.

    Raises: ValueError when they do not fit.
    """
    packer = RowPacker(num_rows, row_length)
    for length in lengths:
        if not packer.add(length):
            raise ValueError(f"{len(lengths)} pieces do not fit into {num_rows} rows of {row_length}")
    return packer.rows

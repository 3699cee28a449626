"""Rows that stand in a text one after the other: an index of where each begins, a parser of one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xoron_core.data.sources.index import Index
from xoron_core.data.sources.rows import ByteFile, RowFile

Offsets = npt.NDArray[np.int64]


class OffsetRows(RowFile):
    """Row i lies between places `first + i` and `first + i + 1` of the index."""

    def __init__(self, path: Path, index: Index, parse: Callable[[bytes], Mapping[str, Any]], first: int = 0) -> None:
        self._file = ByteFile(path)
        self._offsets: Offsets = index.arrays["offsets"]
        self._parse = parse
        self._first = first

    def fields(self, index: int) -> Mapping[str, Any]:
        at = self._first + index
        return self._parse(self._file.read(int(self._offsets[at]), int(self._offsets[at + 1])))

    def close(self) -> None:
        self._file.close()


def index_of(offsets: Offsets, first: int = 0) -> Index:
    """The index of rows that begin at these places, the last of which is the end."""
    return Index(max(len(offsets) - 1 - first, 0), arrays={"offsets": offsets})

"""Comma- or tab-separated values with a header; a field in quotes may hold separators and newlines."""

import csv
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xoron_core.data.sources.index import Index
from xoron_core.data.sources.offsets import OffsetRows, Offsets, index_of
from xoron_core.data.sources.rows import MAX_ROW_BYTES, BadRowError, ByteFile, NotThisFormatError, Tell, chunks

QUOTE, NEWLINE = b'"\n'


def open_csv(path: Path, index: Index) -> OffsetRows:
    """The rows of a file. Raises: NotThisFormatError when it has no header; OSError."""
    csv.field_size_limit(MAX_ROW_BYTES)  # of the process; csv has no other way to let longer fields pass
    separator = _separator(path)
    header = _header(path, index.arrays["offsets"], separator)

    def parse(content: bytes) -> Mapping[str, Any]:
        values = _values(content, separator)
        if len(values) != len(header):
            raise BadRowError(f"has {len(values)} fields where the header has {len(header)}", "wrong_type")
        return dict(zip(header, values, strict=True))

    return OffsetRows(path, index, parse, first=1)


def scan_csv(path: Path, tell: Tell) -> Index:
    """Where each record begins, the header first; blank lines at the end do not count.

    Raises: NotThisFormatError when there is no header; OSError.
    """
    separator = _separator(path)
    begins = [np.zeros(1, dtype=np.int64)]
    end = 0
    quotes = _Quotes(ord(separator))
    for at, chunk in chunks(path, tell):
        content = np.frombuffer(chunk, dtype=np.uint8)
        newlines = np.flatnonzero(content == NEWLINE)
        begins.append(newlines[quotes.leave_open(content, newlines)] + (at + 1))
        if kept := chunk.rstrip(b"\r\n"):
            end = at + len(kept)
    offsets = np.concatenate(begins)
    offsets = np.append(offsets[offsets < end], end)
    _header(path, offsets, separator)
    return index_of(offsets, first=1)


class _Quotes:
    """Which newlines of a file end a record: those outside of quotes. A quote opens a field only at its beginning; two
    in a row, which stand for one, close it and open it again."""

    def __init__(self, separator: int) -> None:
        self._before_field = np.isin(np.arange(256), [separator, NEWLINE, QUOTE])
        self._last_byte = NEWLINE
        self._is_inside = False

    def leave_open(self, content: npt.NDArray[np.uint8], newlines: Offsets) -> npt.NDArray[np.bool_]:
        """Of the next part of the file, for each of its newlines."""
        marks = np.flatnonzero(content == QUOTE)
        before = content[marks - 1]
        if marks.size and marks[0] == 0:
            before[0] = self._last_byte
        openers = before[1 if self._is_inside else 0 :: 2]
        if not self._before_field[openers].all():
            marks = self._marks_that_count(marks, before)
        num_marks = np.searchsorted(marks, newlines) + self._is_inside
        self._is_inside = (len(marks) + self._is_inside) % 2 == 1
        last = int(content[-1])
        counts = last != QUOTE or (marks.size > 0 and marks[-1] == len(content) - 1)
        self._last_byte = last if counts else 0
        return np.equal(num_marks % 2, 0)

    def _marks_that_count(self, marks: Offsets, before: npt.NDArray[np.uint8]) -> Offsets:
        """The quotes that open or close, where there are others: one by one."""
        counting: list[int] = []
        is_inside = self._is_inside
        closed_at = -1 if self._last_byte == QUOTE else -2
        for mark, byte in zip(marks.tolist(), before.tolist(), strict=True):
            if is_inside:
                is_inside, closed_at = False, mark
            elif closed_at == mark - 1 or (self._before_field[byte] and byte != QUOTE):
                is_inside = True
            else:
                continue
            counting.append(mark)
        return np.array(counting, dtype=np.int64)


def _header(path: Path, offsets: Offsets, separator: str) -> list[str]:
    if len(offsets) < 2:
        return []
    with closing(ByteFile(path)) as file:
        try:
            header = _values(file.read(int(offsets[0]), int(offsets[1])), separator)
        except BadRowError as error:
            raise NotThisFormatError(f"has no header: {error.reason}") from error
    if len(set(header)) < max(len(header), 1):
        raise NotThisFormatError(f"needs a header that names each column once, got {header}")
    return header


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _values(content: bytes, separator: str) -> list[str]:
    try:
        return next(csv.reader([content.decode("utf-8-sig")], delimiter=separator), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRowError(f"not {'tab' if separator == chr(9) else 'comma'}-separated text: {error}") from error

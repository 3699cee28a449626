"""Comma- or tab-separated values with a header. In a CSV file, a field in quotes may hold separators and newlines, as
in RFC 4180; in a TSV file quotes are letters like others."""

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

QUOTE, NEWLINE, RETURN = b'"\n\r'
TAB = "\t"


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
    """Where each record begins, the header first; blank lines are none.

    Raises: NotThisFormatError when there is no header, or a quote is never closed; OSError.
    """
    separator = _separator(path)
    begins: list[Offsets] = []
    begin = end = last_byte = 0
    quotes = _Quotes(ord(separator))
    for at, chunk in chunks(path, tell):
        content = np.frombuffer(chunk, dtype=np.uint8)
        newlines = np.flatnonzero(content == NEWLINE)
        if separator != TAB:
            newlines = newlines[quotes.leave_open(content, newlines)]
        if newlines.size:
            starts = np.concatenate(([begin], newlines[:-1] + (at + 1)))
            begins.append(starts[~_blank(content, newlines, newlines + at - starts, last_byte)])
            begin = at + int(newlines[-1]) + 1
        if kept := chunk.rstrip(b"\r\n"):
            end = at + len(kept)
        last_byte = chunk[-1]
    if quotes.is_inside:
        raise NotThisFormatError(
            f"has a quote that is never closed, in the record that begins at byte {begin}; close it, or write a quote "
            'that belongs to a text as "" in a field in quotes'
        )
    offsets = np.append(np.concatenate(begins) if begins else np.zeros(0, dtype=np.int64), begin)
    offsets = np.append(offsets[offsets < end], end)
    _header(path, offsets, separator)
    return index_of(offsets, first=1)


def _blank(
    content: npt.NDArray[np.uint8], newlines: Offsets, lengths: Offsets, last_byte: int
) -> npt.NDArray[np.bool_]:
    """Which records, ended by these newlines, have nothing in them; the byte before `content` is `last_byte`."""
    before = content[newlines - 1]
    if newlines[0] == 0:
        before[0] = last_byte
    blank: npt.NDArray[np.bool_] = (lengths == 0) | ((lengths == 1) & (before == RETURN))
    return blank


class _Quotes:
    """Which newlines of a file end a record: those outside of quotes. A quote opens a field only at its beginning; two
    in a row, which stand for one, close it and open it again."""

    def __init__(self, separator: int) -> None:
        self._before_field = np.isin(np.arange(256), [separator, NEWLINE, QUOTE])
        self._last_byte = NEWLINE
        self.is_inside = False

    def leave_open(self, content: npt.NDArray[np.uint8], newlines: Offsets) -> npt.NDArray[np.bool_]:
        """Of the next part of the file, for each of its newlines."""
        marks = np.flatnonzero(content == QUOTE)
        before = content[marks - 1]
        if marks.size and marks[0] == 0:
            before[0] = self._last_byte
        openers = before[1 if self.is_inside else 0 :: 2]
        if not self._before_field[openers].all():
            marks = self._marks_that_count(marks, before)
        num_marks = np.searchsorted(marks, newlines) + self.is_inside
        self.is_inside = (len(marks) + self.is_inside) % 2 == 1
        last = int(content[-1])
        counts = last != QUOTE or (marks.size > 0 and marks[-1] == len(content) - 1)
        self._last_byte = last if counts else 0
        return np.equal(num_marks % 2, 0)

    def _marks_that_count(self, marks: Offsets, before: npt.NDArray[np.uint8]) -> Offsets:
        """The quotes that open or close, where there are others: one by one."""
        counting: list[int] = []
        is_inside = self.is_inside
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
    if len(header) == 1 and (other := next((sign for sign in (";", TAB) if sign in header[0]), None)):
        raise NotThisFormatError(
            f"has one column, {header[0]!r:.200}, that seems to be several, parted by {other!r}; part them by "
            "commas, or by tabs in a file that ends in .tsv"
        )
    if len(set(header)) < max(len(header), 1):
        raise NotThisFormatError(f"needs a header that names each column once, got {header}")
    return header


def _separator(path: Path) -> str:
    return TAB if path.suffix.lower() == ".tsv" else ","


def _values(content: bytes, separator: str) -> list[str]:
    try:
        text = [content.decode("utf-8-sig")]
        if separator == TAB:
            return next(csv.reader(text, delimiter=TAB, quoting=csv.QUOTE_NONE), [])
        return next(csv.reader(text, strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRowError(f"not {'tab' if separator == TAB else 'comma'}-separated text: {error}") from error

"""A JSON file that is one array of objects, or an object whose `data` is one, read piece by piece."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xoron_core.data.sources.index import Index
from xoron_core.data.sources.jsonl import parse_object
from xoron_core.data.sources.offsets import OffsetRows, Offsets, index_of
from xoron_core.data.sources.rows import ByteFile, NotThisFormatError, Tell, chunks

QUOTE, BACKSLASH, COMMA, OPEN, CLOSE = b'"\\,[]'
BLANKS = b"\xef\xbb\xbf \t\r\n"  # with a byte order mark
KEY_BYTES = 64
MAX_BLANKS = 2**16
DATA_KEY = re.compile(rb'(?<!\\)"data"\s*:\s*\Z')
NOT_AN_ARRAY = 'is no array of objects nor {"data": [...]}; where each line is an object, say format: jsonl'


def open_json(path: Path, index: Index) -> OffsetRows:
    """The rows of a file. Raises: OSError."""
    return OffsetRows(path, index, _parse_element)


def _parse_element(content: bytes) -> Mapping[str, Any]:
    return parse_object(content[:-1])  # without the comma or bracket after it


def scan_json(path: Path, tell: Tell) -> Index:
    """Where each element of the array begins: after its bracket or a comma. An array that is cut off ends where the
    file does.

    Raises: NotThisFormatError when there is no array, or something after it; OSError.
    """
    begins: list[Offsets] = []
    end = path.stat().st_size
    level: int | None = None  # brackets around an element, once the array has begun
    opener = _first_byte(path)
    for signs in _signs(path, tell):
        if level is None:
            start = _start_of_array(path, opener, signs)
            if start is None:
                continue
            level = int(signs.depths[start])
            begins.append(signs.places[start : start + 1] + 1)
            signs = Signs(signs.places[start + 1 :], signs.chars[start + 1 :], signs.depths[start + 1 :])
        commas = signs.places[(signs.chars == COMMA) & (signs.depths == level)]
        closers = signs.places[(signs.chars == CLOSE) & (signs.depths == level - 1)]
        if closers.size:
            end = int(closers[0])
            if opener == b"[":
                _refuse_more(path, end + 1)
            begins.append(commas[commas < end] + 1)
            break
        begins.append(commas + 1)
    if level is None:
        raise NotThisFormatError(NOT_AN_ARRAY)
    offsets = np.append(np.concatenate(begins), end + 1)
    return index_of(offsets[:-1] if _is_blank(path, int(offsets[-2]), end) else offsets)


@dataclass(frozen=True)
class Signs:
    """Brackets and commas outside of texts: where they are, which, and how many brackets are open after each."""

    places: Offsets
    chars: npt.NDArray[np.uint8]
    depths: Offsets


def _signs(path: Path, tell: Tell) -> Iterator[Signs]:
    is_sign = np.isin(np.arange(256), list(b'"\\,[]{}'))
    steps = np.zeros(256, dtype=np.int8)
    steps[list(b"[{")], steps[list(b"]}")] = 1, -1
    depth = num_quotes = 0
    is_escaped = False  # the first byte of a chunk, by a backslash before it
    for at, chunk in chunks(path, tell):
        content = np.frombuffer(chunk, dtype=np.uint8)
        places = np.flatnonzero(is_sign[content])
        chars = content[places]
        quotes = (chars == QUOTE) & ~_escaped(places, chars, is_escaped)
        is_escaped = _escapes_next(chunk, is_escaped)
        before = np.cumsum(quotes) + num_quotes
        num_quotes = int(before[-1]) % 2 if before.size else num_quotes
        outside = (before % 2 == 0) & (chars != QUOTE)
        places, chars = places[outside], chars[outside]
        depths = np.cumsum(steps[chars], dtype=np.int64) + depth
        depth = int(depths[-1]) if depths.size else depth
        yield Signs(places + at, chars, depths)


def _escaped(places: Offsets, chars: npt.NDArray[np.uint8], is_first_escaped: bool) -> npt.NDArray[np.bool_]:
    """Which signs stand after a backslash that is not escaped itself: after an odd number of them."""
    is_backslash = chars == BACKSLASH
    if not is_backslash.any():
        return np.equal(places, 0) & is_first_escaped
    order = np.arange(len(places))
    follows = np.zeros(len(places), dtype=np.bool_)  # directly on a backslash
    follows[1:] = is_backslash[:-1] & (np.diff(places) == 1)
    run_start = np.maximum.accumulate(np.where(follows, 0, order))
    run_length = order - run_start  # backslashes directly before each sign
    is_shifted = is_first_escaped & np.equal(places[run_start], 0)
    odd: npt.NDArray[np.bool_] = (run_length + is_shifted) % 2 == 1
    return odd


def _escapes_next(chunk: bytes, is_first_escaped: bool) -> bool:
    num_backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
    return (num_backslashes + (is_first_escaped and num_backslashes == len(chunk))) % 2 == 1


def _first_byte(path: Path) -> bytes:
    for _, chunk in chunks(path, lambda _: None):
        if content := chunk.lstrip(BLANKS):
            return content[:1]
    return b""


def _start_of_array(path: Path, opener: bytes, signs: Signs) -> int | None:
    """Which of the signs opens the array. Raises: NotThisFormatError when none will."""
    if opener == b"[":
        return 0 if signs.places.size else None
    for sign in np.flatnonzero((signs.depths == 0) | ((signs.chars == OPEN) & (signs.depths == 2))):
        if opener != b"{" or signs.depths[sign] == 0:
            raise NotThisFormatError(NOT_AN_ARRAY)
        place = int(signs.places[sign])
        if DATA_KEY.search(_read(path, max(place - KEY_BYTES, 0), place)):
            return int(sign)
    return None


def _refuse_more(path: Path, start: int) -> None:
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(MAX_BLANKS):
            if more := chunk.lstrip():
                place = file.tell() - len(more)
                raise NotThisFormatError(
                    f"has more after its array, at byte {place}: {more[:20]!r}; put all objects into one array, or an "
                    "object a line and say format: jsonl"
                )


def _is_blank(path: Path, start: int, stop: int) -> bool:
    return stop - start < MAX_BLANKS and not _read(path, start, stop).strip()


def _read(path: Path, start: int, stop: int) -> bytes:
    with closing(ByteFile(path)) as file:
        return file.read(start, stop)

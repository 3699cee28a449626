"""The files that hold a run's events: `events.jsonl` and the rotated `events-<first seq>.jsonl[.zst]`."""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from xoron_core.contract.files import fsync_directory

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIVE_NAME = "events.jsonl"
_ROTATED = re.compile(r"^events-(\d{12})\.jsonl(\.zst)?$")


@dataclass(frozen=True)
class Segment:
    """One file of events; `first_seq` is the number of its first record."""

    first_seq: int
    path: Path

    def open(self, buffering: int = -1) -> IO[bytes]:
        """The uncompressed bytes, from the beginning; `buffering` as in `open`, for a plain file."""
        is_plain = self.path.suffix != ".zst"
        stream = self.path.open("rb", buffering) if is_plain else zstd.open(self.path, "rb")
        return cast("IO[bytes]", stream)


def rotated_segments(directory: Path) -> list[Segment]:
    """The rotated files in order; where a plain one and its compressed copy both stand, the plain one."""
    found: dict[int, Path] = {}
    for path in sorted(directory.glob("events-*.jsonl*")):
        match = _ROTATED.match(path.name)
        if match and (int(match[1]) not in found or match[2] is None):
            found[int(match[1])] = path
    return [Segment(seq, path) for seq, path in sorted(found.items())]


def rotated_name(first_seq: int) -> str:
    """The name of the file whose first record is `first_seq`, before it is compressed."""
    return f"events-{first_seq:012d}.jsonl"


def compress(path: Path) -> Path:
    """Put the compressed copy of `path` beside it, whole or not at all, then remove `path`."""
    target = path.with_name(path.name + ".zst")
    temporary = path.with_name("." + target.name)
    try:
        with path.open("rb") as source, temporary.open("wb") as sink:
            with zstd.open(sink, "wb", level=3) as packed:
                while block := source.read(1 << 20):
                    packed.write(block)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk has no room for a half
        raise
    fsync_directory(path.parent)  # a power cut must not find the copy empty and the original gone
    path.unlink()
    return target


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The record on a line, or None where the line is torn or is not a record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    seq = record.get("seq")
    return record if isinstance(seq, int) and not isinstance(seq, bool) and seq >= 1 else None


def first_record(path: Path) -> dict[str, Any] | None:
    """The first whole record of a plain file; None for an empty file or one that holds none."""
    with path.open("rb") as file:
        return first_of(file)


def first_of(file: IO[bytes]) -> dict[str, Any] | None:
    """The first whole record of an open plain file."""
    for line in file:
        if line.endswith(b"\n") and (record := parse_record(line)) is not None:
            return record
    return None


@dataclass(frozen=True)
class FileEnd:
    """Where the sound part of a file ends, and its last record."""

    offset: int
    last: dict[str, Any] | None


def find_end(file: IO[bytes], block_size: int = 1 << 16) -> FileEnd:
    """The end of the last whole record, found from the back, so that it costs the same in a large file."""
    end = file.seek(0, 2)
    tail, start = b"", end
    while start > 0:
        step = min(block_size, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
        offset = start + len(tail)
        lines = tail.split(b"\n")
        offset -= len(lines.pop())  # what follows the last newline is torn
        first_whole = 0 if start == 0 else 1  # the first piece may begin before this block
        for line in reversed(lines[first_whole:]):
            if (record := parse_record(line)) is not None:
                return FileEnd(offset, record)
            offset -= len(line) + 1
    return FileEnd(0, None)

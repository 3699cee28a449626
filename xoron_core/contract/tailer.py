"""Following a run's events while they are written, across rotations, from any saved position."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from xoron_core.contract.segments import LIVE_NAME, Segment, first_of, first_record, parse_record, rotated_segments

_LISTINGS = 3
_GLANCE_BYTES = 1 << 16


@dataclass(frozen=True)
class Cursor:
    """How far a reader got: the last record's `seq`, and where the next begins (a hint that saves a search)."""

    seq: int = 0
    first_seq: int = 0
    offset: int = 0


class EventTailer:
    """Reads whole records after a cursor; a torn last line is left for the next poll.

    A line that is no record is counted in `num_corrupt` once a record follows it, never fatal. `is_displaced` tells
    that the files are not those that were read before (a power cut took their end, a backup was put back): then what
    has a larger number than the cursor is read on, and whoever kept what came before may begin again.
    """

    def __init__(self, directory: Path, cursor: Cursor = Cursor()) -> None:
        self.directory = directory
        self.cursor = cursor
        self.num_corrupt = 0
        self.is_displaced = False
        self._file: IO[bytes] | None = None
        self._is_plain = True
        self._rest = b""

    def poll(self, max_bytes: int = 4 * 2**20) -> list[dict[str, Any]]:
        """The next whole records, at most about `max_bytes` of them; empty when there is nothing new."""
        while True:
            if self._file is None and not self._open():
                return []
            is_current = self._is_current()  # asked before reading: what was written before a rotation is read below
            if is_current and self._has_shrunk():
                self._lose_place()
                continue
            records = self._read(max_bytes)
            if records or is_current:
                return records
            if not self._advance():
                if not self._is_put_back():
                    return records
                self._lose_place()

    def _lose_place(self) -> None:
        """Find it again by number."""
        self.close()
        self.is_displaced = True
        self.cursor = Cursor(self.cursor.seq)

    def _segments(self) -> list[Segment]:
        """All files in order. The live one is looked at first: rotated meanwhile, it stands twice, never not at all."""
        live = self.directory / LIVE_NAME
        try:
            first = first_record(live)
        except FileNotFoundError:  # before the first record, or in the middle of a rotation
            first = None
        segments = rotated_segments(self.directory)
        if first is not None and all(segment.first_seq != first["seq"] for segment in segments):
            segments.append(Segment(int(first["seq"]), live))
        return segments

    def _open(self) -> bool:
        for _ in range(_LISTINGS):  # one may name a file that is rotated or compressed before it is opened
            segments = self._segments()
            if not segments:
                return False
            exact = [segment for segment in segments if segment.first_seq == self.cursor.first_seq]
            if exact and self._open_at(exact[0], self.cursor.offset):
                return True
        self.is_displaced |= self.cursor.offset > 0
        before = [segment for segment in segments if segment.first_seq <= self.cursor.seq + 1]
        return self._open_at((before or segments)[-1 if before else 0], 0)

    def _open_at(self, segment: Segment, offset: int) -> bool:
        """Go on in `segment` at `offset`; False when it is not there (any more), or has no such place."""
        try:
            file = segment.open(buffering=0)  # a buffer would give back what the writer has cut off since
        except FileNotFoundError:  # rotated or compressed between the listing and here
            return False
        is_another = segment.path.name == LIVE_NAME and _first_seq(file) != segment.first_seq
        if is_another or (offset > 0 and _seq_before(file, offset) != self.cursor.seq):
            file.close()
            return False
        self.close()
        self._file, self._is_plain = file, segment.path.suffix != ".zst"
        self.cursor = Cursor(self.cursor.seq, segment.first_seq, offset)
        return True

    def _advance(self) -> bool:
        """Go on to the next file, if there is one."""
        for _ in range(_LISTINGS):
            later = [segment for segment in self._segments() if segment.first_seq > self.cursor.first_seq]
            if later and later[0].first_seq == self.cursor.seq + 1:
                break  # otherwise a listing has missed a file that was being replaced, or records are lost for good
        return bool(later) and self._open_at(later[0], 0)

    def _is_current(self) -> bool:
        """Whether the open file is still the live one."""
        assert self._file is not None
        try:
            live = (self.directory / LIVE_NAME).stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file.fileno())
        return (live.st_dev, live.st_ino) == (mine.st_dev, mine.st_ino)

    def _is_put_back(self) -> bool:
        """Whether the live file is another one than that which is open, and not one that follows it."""
        live = [segment.first_seq for segment in self._segments() if segment.path.name == LIVE_NAME]
        return bool(live) and live[0] <= self.cursor.first_seq and not self._is_current()

    def _has_shrunk(self) -> bool:
        assert self._file is not None
        return os.fstat(self._file.fileno()).st_size < self.cursor.offset

    def _read(self, max_bytes: int) -> list[dict[str, Any]]:
        """Records up to a good `max_bytes`. The cursor never passes the last record: what follows may yet be cut."""
        assert self._file is not None
        size = max_bytes
        while True:
            start = self.cursor.offset
            if self._is_plain:
                self._file.seek(start)
            more = self._file.read(size)
            block = self._rest + more
            records = self._take(block)
            if not self._is_plain:  # going back in a compressed file means starting over
                self._rest = block[self.cursor.offset - start :]
            if records or len(more) < size:
                return records
            size = max_bytes if self.cursor.offset > start else 2 * size  # a record, or garbage, longer than the block

    def _take(self, block: bytes) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        seq, offset, num_corrupt = self.cursor.seq, self.cursor.offset, 0
        for line in block.split(b"\n")[:-1]:
            offset += len(line) + 1
            record = parse_record(line)
            if record is None:
                num_corrupt += 1
                continue
            if record["seq"] > seq:
                seq = record["seq"]
                records.append(record)
            self.cursor = Cursor(seq, self.cursor.first_seq, offset)
            self.num_corrupt += num_corrupt
            num_corrupt = 0
        return records

    def close(self) -> None:
        """Let go of the file; the cursor stays."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _seq_before(file: IO[bytes], offset: int) -> int | None:
    """The number of the record that ends at `offset`, where the file is left; None where none ends there."""
    size = _GLANCE_BYTES
    while True:
        start = max(0, offset - size)
        file.seek(start)
        block = file.read(offset - start)
        if start == 0 or block.count(b"\n") > 1 or len(block) < offset - start:
            break
        size *= 16
    if len(block) < offset - start or not block.endswith(b"\n"):
        return None
    record = parse_record(block[:-1].rpartition(b"\n")[2])
    return None if record is None else int(record["seq"])


def _first_seq(file: IO[bytes]) -> int | None:
    """The number of the first record of an open plain file; its position is moved."""
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        record = first_of(buffered)
    return None if record is None else int(record["seq"])

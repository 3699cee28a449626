"""Following a run's events while they are written, across rotations, from any saved position."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from xoron_core.contract.segments import LIVE_NAME, Segment, first_record, parse_record, rotated_segments


@dataclass(frozen=True)
class Cursor:
    """How far a reader got: the last record's `seq`, and where the next begins (a hint that saves a search)."""

    seq: int = 0
    first_seq: int = 0
    offset: int = 0


class EventTailer:
    """Reads whole records after a cursor; a torn last line is left for the next poll.

    A line that is no record is counted in `num_corrupt`, never fatal.
    """

    def __init__(self, directory: Path, cursor: Cursor = Cursor()) -> None:
        self.directory = directory
        self.cursor = cursor
        self.num_corrupt = 0
        self._file: IO[bytes] | None = None

    def poll(self, max_bytes: int = 4 * 2**20) -> list[dict[str, Any]]:
        """The next whole records, at most about `max_bytes` of them; empty when there is nothing new."""
        while True:
            if self._file is None and not self._open():
                return []
            is_current = self._is_current()  # asked before reading: what was written before a rotation is read below
            offset = self.cursor.offset
            records = self._read(max_bytes)
            if records:
                return records
            if self.cursor.offset == offset and (is_current or not self._advance()):
                return []

    def _segments(self) -> list[Segment]:
        segments = rotated_segments(self.directory)
        live = self.directory / LIVE_NAME
        first = first_record(live) if live.exists() else None
        if first is not None:
            segments.append(Segment(int(first["seq"]), live))
        return segments

    def _open(self) -> bool:
        segments = self._segments()
        if not segments:
            return False
        exact = [segment for segment in segments if segment.first_seq == self.cursor.first_seq]
        if exact and self._open_at(exact[0], self.cursor.offset):
            return True
        before = [segment for segment in segments if segment.first_seq <= self.cursor.seq + 1]
        return self._open_at((before or segments)[-1 if before else 0], 0)

    def _open_at(self, segment: Segment, offset: int) -> bool:
        try:
            file = segment.open()
        except FileNotFoundError:  # rotated or compressed between the listing and here
            return False
        if file.seek(offset) != offset or (segment.path.name == LIVE_NAME and segment.path.stat().st_size < offset):
            file.close()
            return False
        self.close()
        self._file = file
        self.cursor = Cursor(self.cursor.seq, segment.first_seq, offset)
        return True

    def _advance(self) -> bool:
        later = [segment for segment in self._segments() if segment.first_seq > self.cursor.first_seq]
        return bool(later) and self._open_at(later[0], 0)

    def _is_current(self) -> bool:
        """Whether the open file is still the live one, and not shorter than what was read of it."""
        assert self._file is not None
        try:
            live = (self.directory / LIVE_NAME).stat()
            mine = os.fstat(self._file.fileno())
        except FileNotFoundError:
            return False
        if (live.st_dev, live.st_ino) != (mine.st_dev, mine.st_ino):
            return False
        if live.st_size < self.cursor.offset:  # put back from a copy: find the place again by number
            self.close()
            self.cursor = Cursor(self.cursor.seq)
            return self._open()
        return True

    def _read(self, max_bytes: int) -> list[dict[str, Any]]:
        assert self._file is not None
        self._file.seek(self.cursor.offset)
        block = self._file.read(max_bytes)
        while block and b"\n" not in block and len(block) >= max_bytes:  # one record longer than the block
            more = self._file.read(max_bytes)
            if not more:
                break
            block += more
        lines = block.split(b"\n")[:-1]
        records, seq, offset = [], self.cursor.seq, self.cursor.offset
        for line in lines:
            offset += len(line) + 1
            record = parse_record(line)
            if record is None:
                self.num_corrupt += 1
            elif record["seq"] > seq:
                seq = record["seq"]
                records.append(record)
        self.cursor = Cursor(seq, self.cursor.first_seq, offset)
        return records

    def close(self) -> None:
        """Let go of the file; the cursor stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

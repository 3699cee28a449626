"""The one writer of a run's events: append-only, numbered, cut to whole records, rotated, steady on a full disk."""

import fcntl
import json
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xoron_core.contract import clock
from xoron_core.contract.errors import EventsLockedError
from xoron_core.contract.events import Event, LogEvent
from xoron_core.contract.segments import (
    LIVE_NAME,
    compress,
    find_end,
    first_record,
    rotated_name,
    rotated_segments,
)

log = logging.getLogger(__name__)

ROTATE_BYTES = 256 * 2**20


class EventWriter:
    """Holds `flock(events.lock)` from construction to `close`.

    Opening cuts a torn last line and goes on at the last seq + 1. While the disk refuses a record, the file is cut
    back to its last whole one, `is_stalled` is true and records wait in memory, in order, until `flush` succeeds.

    Raises: EventsLockedError when another process holds the lock.
    """

    def __init__(self, directory: Path, attempt: int, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.directory = directory
        self.attempt = attempt
        self.rotate_bytes = rotate_bytes
        self._held: list[bytes] = []
        self._lock_fd = _lock(directory / "events.lock")
        try:
            self._open_live()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def _open_live(self) -> None:
        for segment in rotated_segments(self.directory):
            if segment.path.suffix != ".zst":
                _compress_if_possible(segment.path)  # a rotation that was cut short
        path = self.directory / LIVE_NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with path.open("rb") as file:
            end = find_end(file)
            torn = file.seek(0, 2) - end.offset
        os.ftruncate(self._fd, end.offset)
        self._size = end.offset
        first = first_record(path)
        self._first_seq = None if first is None else int(first["seq"])
        self._last_seq = int(end.last["seq"]) if end.last else self._last_rotated_seq()
        if torn:
            self.append(LogEvent(level="warning", message=f"cut {torn} bytes of a torn record off {LIVE_NAME}"))

    def _last_rotated_seq(self) -> int:
        segments = rotated_segments(self.directory)
        if not segments:
            return 0
        with segments[-1].open() as file:
            end = find_end(file)
        return int(end.last["seq"]) if end.last else segments[-1].first_seq - 1

    @property
    def last_seq(self) -> int:
        """The number of the newest record."""
        return self._last_seq

    @property
    def is_stalled(self) -> bool:
        """Whether records wait in memory because the disk refuses them."""
        return bool(self._held)

    def append(self, event: Event) -> int:
        """Write one record and hand it to the kernel; its number is returned.

        Raises: ValueError for a number that JSON has no word for; nothing is written then.
        """
        record: dict[str, Any] = {"seq": self._last_seq + 1, "time": clock.now(), "attempt": self.attempt}
        record.update(event.model_dump(mode="json"))
        line = json.dumps(record, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode() + b"\n"
        self._last_seq += 1
        self._held.append(line)
        self.flush()
        return self._last_seq

    def flush(self) -> bool:
        """Write what waits in memory; False while the disk refuses it."""
        while self._held:
            if not self._write(self._held[0]):
                return False
            del self._held[0]
        return True

    def _write(self, line: bytes) -> bool:
        if self._size >= self.rotate_bytes and self._first_seq is not None:
            self._rotate()
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:  # full disk, quota, failing device: the record is kept, the file stays whole
            os.ftruncate(self._fd, self._size)
            log.warning("cannot write %s: %s; %d records wait in memory", LIVE_NAME, error, len(self._held))
            return False
        if self._first_seq is None:
            self._first_seq = int(json.loads(line)["seq"])
        self._size += len(line)
        return True

    def _rotate(self) -> None:
        assert self._first_seq is not None
        live = self.directory / LIVE_NAME
        rotated = self.directory / rotated_name(self._first_seq)
        try:
            os.fsync(self._fd)
            live.rename(rotated)
            fd = os.open(live, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:  # no room for another file: go on with this one, try again at the next record
            log.warning("cannot rotate %s: %s", LIVE_NAME, error)
            if not live.exists():
                rotated.rename(live)
            return
        os.close(self._fd)
        self._fd = fd
        self._size = 0
        self._first_seq = None
        _compress_if_possible(rotated)

    def sync(self) -> None:
        """Make everything written so far survive a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Flush, close the file and release the lock."""
        self.flush()
        os.close(self._fd)
        os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _compress_if_possible(rotated: Path) -> None:
    """The plain file serves as well, and the next opening tries again."""
    try:
        compress(rotated)
    except OSError as error:
        log.warning("cannot compress %s: %s", rotated.name, error)


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise EventsLockedError(f"{path} is held by another process: a run's events have one writer") from error
    return fd

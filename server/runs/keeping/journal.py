"""What the keeper writes of a run: events while no trainer does, `keeper.json`, `exit.json`, the next attempt's file.

A full disk is waited out: how a run went is not forgotten.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from server.runs.keeping.output import LogFile
from xoron_core.contract import clock
from xoron_core.contract.errors import EventsLockedError
from xoron_core.contract.events import Event
from xoron_core.contract.files import to_json, write_atomic
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptExit, AttemptRecord, KeeperRecord, RunDirectory
from xoron_core.contract.writer import EventWriter

PREDECESSOR_S = 15.0
_DISK_RETRY_S = 1.0

T = TypeVar("T")


class Journal:
    """Writes for one keeper."""

    def __init__(self, run: RunDirectory, log: LogFile, gpus: Sequence[str]) -> None:
        self._run = run
        self._log = log
        self._gpus = list(gpus)
        self._started_at = clock.now()

    def events(self, attempt: int, events: Sequence[Event]) -> None:
        """Write events of an attempt whose trainer does not hold the file.

        Raises: EventsLockedError when somebody holds it all the same, and does not let go.
        """
        writer = retry(lambda: EventWriter(self._run.path, attempt), EventsLockedError, PREDECESSOR_S)
        with writer:
            for event in events:
                writer.append(event)
            while not writer.flush():
                time.sleep(_DISK_RETRY_S)
            self._persist(writer.sync)

    def keeper(self, attempt: int) -> None:
        """Say who looks after the run, and after which attempt, before it has a trainer."""
        self._persist(lambda: self._write_keeper(attempt, None))

    def trainer(self, attempt: int, trainer: ProcessIdentity | None) -> None:
        """Say which process the attempt's trainer is; where the disk refuses, it stays unsaid: the trainer runs, and is
        to be looked after."""
        try:
            self._write_keeper(attempt, trainer)
        except OSError as error:
            self._log.say(f"cannot write who the trainer is ({error})")

    def _write_keeper(self, attempt: int, trainer: ProcessIdentity | None) -> None:
        record = KeeperRecord(
            attempt=attempt,
            keeper=ProcessIdentity.of_self(),
            trainer=trainer,
            started_at=self._started_at,
            inode=self._run.path.stat().st_ino,
            gpus=self._gpus,
        )
        write_atomic(self._run.keeper_file, to_json(record))

    def exit(self, end: AttemptExit) -> None:
        """Say how an attempt ended; a word that was said of it before is replaced."""
        record = self._run.exits()
        record.attempts = [one for one in record.attempts if one.attempt != end.attempt] + [end]
        self._persist(lambda: write_atomic(self._run.exit_file, to_json(record)))

    def attempt(self, record: AttemptRecord) -> None:
        """Write the file with which the next attempt begins.

        Raises: FileExistsError when somebody else began it.
        """
        self._persist(lambda: self._run.write_attempt(record))

    def _persist(self, write: Callable[[], None]) -> None:
        while True:
            try:
                return write()
            except FileExistsError:
                raise
            except OSError as error:
                self._log.say(f"cannot write ({error}); trying again")
                time.sleep(_DISK_RETRY_S)


def retry(action: Callable[[], T], error: type[Exception], timeout_s: float) -> T:
    """`action`'s value, tried again while it raises `error`, for `timeout_s` at most."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return action()
        except error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

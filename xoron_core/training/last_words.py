"""What a rank leaves behind: its exit status and its last words."""

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from xoron_core.contract import clock
from xoron_core.contract.errors import (
    AnotherFormatError,
    ConfigError,
    DataError,
    EventsLockedError,
    NonFiniteError,
    RunDirectoryError,
)
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RankEnd, RunDirectory
from xoron_core.distributed.ranks import PeerLostError
from xoron_core.training.control import Control
from xoron_core.training.errors import (
    AnotherModelError,
    DamagedCheckpointError,
    StepsNotFiniteError,
)

log = logging.getLogger(__name__)

CRASHED = 1
_NO_MEMORY = re.compile(r"DefaultCPUAllocator: |CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
_REFUSED = (ConfigError, DataError, RunDirectoryError, AnotherFormatError, AnotherModelError)
"""What another start would meet again."""


def exit_code(error: BaseException) -> int:
    """The status of a process that ends by this error."""
    if is_out_of_memory(error):
        return ExitCode.OUT_OF_MEMORY
    if isinstance(error, NonFiniteError):
        return ExitCode.ROLLBACK
    if isinstance(error, DamagedCheckpointError):
        return ExitCode.DAMAGED_CHECKPOINT
    if isinstance(error, PeerLostError):
        return ExitCode.PEER_LOST
    if isinstance(error, _REFUSED) and not isinstance(error, EventsLockedError):
        return ExitCode.REFUSED
    return CRASHED


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the host, where torch has no error of its own for it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, RuntimeError):
        return False
    from torch import OutOfMemoryError  # seconds, and of use only where torch may have raised

    return isinstance(error, OutOfMemoryError) or _NO_MEMORY.search(str(error)) is not None


def in_one_line(error: BaseException) -> str:
    """Type and first line of an error."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}".rstrip(": ")


class LastWords:
    """Those of one rank, whichever way it ends. `control`, as soon as there is one, knows how far it got."""

    def __init__(self, run: RunDirectory, attempt: int, rank: int) -> None:
        self.run = run
        self.attempt = attempt
        self.rank = rank
        self.control = Control()

    def of_order(self, code: int) -> None:
        """It ends as it was asked to, or is done."""
        self._write(self._end(code, None))

    @contextmanager
    def of_failure(self) -> Iterator[None]:
        """An error that leaves this is put into words on its way."""
        try:
            yield
        except BaseException as error:  # whatever ends the process; it goes on
            end = self._end(exit_code(error), in_one_line(error))
            if isinstance(error, StepsNotFiniteError):
                end = end.model_copy(update={"bad_since_step": error.since_step, "bad_samples": error.samples})
            self._write(end)
            raise

    def _end(self, code: int, reason: str | None) -> RankEnd:
        step = self.control.step
        return RankEnd(attempt=self.attempt, rank=self.rank, code=code, reason=reason, step=step, time=clock.now())

    def _write(self, end: RankEnd) -> None:
        try:
            self.run.write_rank_end(end)
        except OSError:  # a full disk; the exit status still tells
            log.exception("the last words cannot be written: %s", end)

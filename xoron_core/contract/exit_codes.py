"""What the trainer's exit status tells its keeper."""

from enum import IntEnum

from xoron_core.contract.states import RunState


class ExitCode(IntEnum):
    """Statuses with a meaning; any other, and every signal, is a failure."""

    COMPLETED = 0
    STOPPED = 10
    PAUSED = 11
    CANCELLED = 12
    ROLLBACK = 30
    """Too many non-finite steps: start again from the last good checkpoint, without the samples at fault."""


END_STATES = {
    ExitCode.COMPLETED: RunState.COMPLETED,
    ExitCode.STOPPED: RunState.STOPPED,
    ExitCode.PAUSED: RunState.PAUSED,
    ExitCode.CANCELLED: RunState.CANCELLED,
}

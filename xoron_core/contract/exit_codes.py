"""What the trainer's exit status tells its keeper."""

from enum import IntEnum, StrEnum

from xoron_core.contract.states import RunState


class ExitCode(IntEnum):
    """Statuses with a meaning; any other, and every signal, is a failure."""

    COMPLETED = 0
    STOPPED = 10
    PAUSED = 11
    CANCELLED = 12
    ROLLBACK = 30
    """Too many non-finite steps: start again from the last good checkpoint, without the samples at fault."""
    OUT_OF_MEMORY = 31
    DAMAGED_CHECKPOINT = 32
    """The checkpoint to start from is not as it was written."""
    REFUSED = 33
    """Something that another start would meet again: a configuration or data that cannot be used."""
    PEER_LOST = 34
    """Another rank went away; that one knows why."""


class Failure(StrEnum):
    """Why an attempt did not come to the end that was wanted."""

    CRASH = "crash"
    OUT_OF_MEMORY = "out_of_memory"
    NON_FINITE = "non_finite"
    DAMAGED_CHECKPOINT = "damaged_checkpoint"
    HANG = "hang"
    GPU_LOST = "gpu_lost"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    """The keeper itself went away: it was killed, or the machine went down."""


FAILURES = {
    ExitCode.ROLLBACK: Failure.NON_FINITE,
    ExitCode.OUT_OF_MEMORY: Failure.OUT_OF_MEMORY,
    ExitCode.DAMAGED_CHECKPOINT: Failure.DAMAGED_CHECKPOINT,
    ExitCode.REFUSED: Failure.REFUSED,
}
"""Any other status that is no end is a crash."""


END_STATES = {
    ExitCode.COMPLETED: RunState.COMPLETED,
    ExitCode.STOPPED: RunState.STOPPED,
    ExitCode.PAUSED: RunState.PAUSED,
    ExitCode.CANCELLED: RunState.CANCELLED,
}

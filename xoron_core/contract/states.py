"""The states of a run and the one table of what may follow what."""

from enum import StrEnum

from xoron_core.contract.errors import StateError


class RunState(StrEnum):
    """Where a run stands; the value is what the field `state` holds everywhere."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    RECOVERING = "recovering"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"


_S = RunState

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.QUEUED: frozenset({_S.STARTING, _S.PAUSED, _S.STOPPED, _S.CANCELLED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.PAUSING, _S.STOPPING, _S.RECOVERING, _S.FAILED, _S.INTERRUPTED}),
    _S.RUNNING: frozenset({_S.PAUSING, _S.STOPPING, _S.RECOVERING, _S.COMPLETED, _S.FAILED, _S.INTERRUPTED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.STOPPING, _S.FAILED, _S.INTERRUPTED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.STOPPED, _S.CANCELLED}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.CANCELLED, _S.FAILED, _S.INTERRUPTED}),
    _S.RECOVERING: frozenset({_S.STARTING, _S.PAUSING, _S.STOPPING, _S.FAILED, _S.INTERRUPTED}),
    _S.STOPPED: frozenset({_S.QUEUED}),
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.INTERRUPTED: frozenset({_S.QUEUED}),
    _S.COMPLETED: frozenset({_S.QUEUED}),
    _S.CANCELLED: frozenset(),
}

LIVE = frozenset({_S.STARTING, _S.RUNNING, _S.PAUSING, _S.STOPPING, _S.RECOVERING})
"""States in which a keeper is at work; without one they read `interrupted`."""

ENDED = frozenset({_S.STOPPED, _S.CANCELLED, _S.INTERRUPTED, _S.COMPLETED, _S.FAILED})
"""States in which nothing more happens unless somebody asks."""


def check_transition(old: RunState, new: RunState) -> None:
    """Let pass what the table has.

    Raises: StateError naming both states and what is possible from here.
    """
    allowed = TRANSITIONS[old]
    if new not in allowed:
        possible = ", ".join(sorted(allowed)) or "nothing: this state is final"
        raise StateError(f"a run that is {old} cannot become {new}; from here: {possible}")

"""What comes after an attempt: nothing, another one, or the word why there is none."""

from dataclasses import dataclass
from typing import Literal

from server.runs.keeping import line
from server.runs.keeping.recovery import FailedAttempt, GiveUp, Recovery, recover
from server.runs.keeping.trial import Result
from xoron_core.contract.errors import XoronError
from xoron_core.contract.events import TroubleEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory
from xoron_core.contract.states import LIVE, RunState

_ENDING = frozenset({RunState.STOPPING, RunState.PAUSING})


@dataclass(frozen=True)
class Nothing:
    """The attempt came to an end of its own."""

    def troubles(self) -> list[TroubleEvent]:
        """None."""
        return []


@dataclass(frozen=True)
class GivenUp:
    """It failed, and that is the end."""

    failure: Failure
    reason: str
    why_not: str

    def troubles(self) -> list[TroubleEvent]:
        """The failure with its reason, and why nothing is tried."""
        reason = f"{self.reason}; not tried again: {self.why_not}"
        return [TroubleEvent(action="none", failure=self.failure, reason=reason)]


@dataclass(frozen=True)
class Following:
    """It failed, and another attempt begins."""

    record: AttemptRecord
    recovery: Recovery

    def troubles(self) -> list[TroubleEvent]:
        """The failure with its reason, and what is tried."""
        is_rollback = self.recovery.failure is Failure.NON_FINITE
        action: Literal["rollback", "restart"] = "rollback" if is_rollback else "restart"
        return [TroubleEvent(action=action, failure=self.recovery.failure, reason=self.record.reason)]


def what_follows(run: RunDirectory, result: Result, last: RunState) -> Nothing | GivenUp | Following:
    """What follows an attempt that ended in the state `last`."""
    failure, reason = result.verdict.failure, result.verdict.reason
    if failure is None or last not in LIVE:
        return Nothing()
    if result.pressure.was_asked or last in _ENDING:
        return GivenUp(failure, reason, "the run was asked to end")
    record, config = result.record, result.config
    if record is None or config is None:
        return GivenUp(failure, reason, "it could not be started")
    if failure is Failure.DAMAGED_CHECKPOINT and line.is_of_a_persons_choice(run, record):
        return GivenUp(failure, reason, "a person chose this checkpoint; resume from another")
    now = line.failed(record, failure, result.step, reason, result.exit.ends)
    try:
        after = recover(config, [*line.earlier_failures(run, record.attempt), now])
        return _following(run, record, now, after)
    except XoronError as error:  # a file of the line is gone, or the changed configuration is none
        return GivenUp(failure, reason, str(error))


def _following(
    run: RunDirectory, record: AttemptRecord, now: FailedAttempt, after: Recovery | GiveUp
) -> GivenUp | Following:
    if isinstance(after, GiveUp):
        return GivenUp(now.failure, now.reason, after.reason)
    return Following(line.next_attempt(run, record, now, after), after)

"""The wait before another attempt: it ends early when somebody asks for an end of the run."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from server.runs.keeping.aftermath import Following
from server.runs.keeping.ending import ASKED_STATES
from server.runs.keeping.output import LogFile
from server.runs.keeping.requests import Requests
from server.runs.keeping.supervision import Wakeup
from xoron_core.contract import clock
from xoron_core.contract.events import CommandEvent, PhaseEvent
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState

_TICK_S = 0.05


@dataclass(frozen=True)
class Asked:
    """The end that somebody asked for, and the answer to the command, where it was one."""

    state: RunState
    reason: str
    answers: list[CommandEvent] = field(default_factory=list)


@dataclass(frozen=True)
class BackOff:
    """How long to wait for which attempt."""

    attempt: int
    delay_s: float

    @classmethod
    def of(cls, after: Following) -> "BackOff":
        """The wait before an attempt."""
        return cls(after.record.attempt, after.recovery.delay_s)

    def phase(self) -> PhaseEvent:
        """The phase that shows it."""
        deadline = clock.format_time(datetime.now(UTC) + timedelta(seconds=self.delay_s))
        return PhaseEvent(phase="backing_off", detail=f"before attempt {self.attempt}", deadline=deadline)

    def wait(self, run: RunDirectory, attempt: int, wakeup: Wakeup, log: LogFile) -> Asked | None:
        """Wait, looking at requests to end for `attempt`, which failed, and its line; None when there was none."""
        requests = Requests(run.commands, attempt, run.line(attempt)[0].attempt, warn=log.say)
        deadline = time.monotonic() + self.delay_s
        while True:
            if requests.look() is not None:
                return _asked(requests)
            if wakeup.told_to_end():
                return Asked(ASKED_STATES[None], "the keeper was sent SIGTERM before it started again")
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            wakeup.wait(min(left, _TICK_S))


def _asked(requests: Requests) -> Asked:
    command = requests.command
    assert command is not None, "something was asked"
    answer = CommandEvent(id=command.id, command=command.kind, status="accepted", detail="no trainer was running")
    return Asked(ASKED_STATES[command.kind], f"{command.kind} was asked before it started again", [answer])

"""Command → SIGTERM → SIGKILL: when the keeper stops waiting for a trainer that was asked to end."""

import signal
from dataclasses import dataclass

from server.runs.keeping.requests import Requests
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.events import TroubleEvent


@dataclass(frozen=True)
class Step:
    """What to do now: `number` to the trainer, or (SIGKILL) to everything that it started."""

    number: signal.Signals
    event: TroubleEvent


class Escalation:
    """Keeps the two deadlines that follow a request to end."""

    def __init__(self, requests: Requests, stop_grace_s: float, term_grace_s: float) -> None:
        self._requests = requests
        self._stop_grace_s = stop_grace_s
        self._term_grace_s = term_grace_s
        self._deadline: float | None = None
        self._terminated_s: float | None = None
        self._is_over = False

    @property
    def asked(self) -> CommandKind | None:
        """What the trainer was asked."""
        return self._requests.asked

    def poll(self, now_s: float) -> Step | None:
        """The next step that is due at `now_s` (monotonic), if any."""
        asked = self._requests.look()
        if self._deadline is None and asked is not None and not self._is_over:
            self._deadline = now_s + self._stop_grace_s
        if self._deadline is None or now_s < self._deadline:
            return None
        if self._terminated_s is None:
            self._terminated_s = now_s
            self._deadline = now_s + self._term_grace_s
            reason = f"no end {self._stop_grace_s:g} s after {asked} was asked; sent SIGTERM"
            return Step(signal.SIGTERM, TroubleEvent(action="terminate", reason=reason))
        self._is_over, self._deadline = True, None
        waited_s = round(now_s - self._terminated_s, 1)
        reason = f"no end {waited_s:g} s after SIGTERM; sent SIGKILL to all processes of the run"
        return Step(signal.SIGKILL, TroubleEvent(action="kill", reason=reason))

    def was_terminated(self, now_s: float) -> None:
        """SIGTERM was sent at somebody else's wish: it has the time that a request has, and that of SIGTERM."""
        if self._terminated_s is None:
            self._terminated_s = now_s
            self._deadline = now_s + self._stop_grace_s + self._term_grace_s

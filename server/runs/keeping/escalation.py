"""Command → SIGTERM → SIGKILL: when the keeper stops waiting for a trainer that was asked to end."""

import signal
from collections.abc import Callable
from dataclasses import dataclass

from xoron_core.contract.commands import ENDING, CommandBox, CommandKind
from xoron_core.contract.errors import CommandError
from xoron_core.contract.events import TroubleEvent


@dataclass(frozen=True)
class Step:
    """What to do now: `number` to the trainer, or (SIGKILL) to everything that it started."""

    number: signal.Signals
    event: TroubleEvent


class Escalation:
    """Watches a run's commands for one that ends this attempt and keeps the two deadlines that follow."""

    def __init__(
        self, commands: CommandBox, attempt: int, stop_grace_s: float, term_grace_s: float, warn: Callable[[str], None]
    ) -> None:
        self.asked: CommandKind | None = None
        self._commands = commands
        self._attempt = attempt
        self._stop_grace_s = stop_grace_s
        self._term_grace_s = term_grace_s
        self._warn = warn
        self._last_id = 0
        self._deadline: float | None = None
        self._terminated = False

    def poll(self, now_s: float) -> Step | None:
        """The next step that is due at `now_s` (monotonic), if any."""
        self._look(now_s)
        if self._deadline is None or now_s < self._deadline:
            return None
        if not self._terminated:
            self._terminated = True
            self._deadline = now_s + self._term_grace_s
            reason = f"no end {self._stop_grace_s:g} s after {self.asked} was asked; sent SIGTERM"
            return Step(signal.SIGTERM, TroubleEvent(action="terminate", reason=reason))
        self._deadline = None
        reason = f"no end {self._term_grace_s:g} s after SIGTERM; sent SIGKILL to all processes of the run"
        return Step(signal.SIGKILL, TroubleEvent(action="kill", reason=reason))

    def _look(self, now_s: float) -> None:
        try:
            for command in self._commands.after(self._last_id):
                self._last_id = command.id
                if command.attempt != self._attempt or command.kind not in ENDING:
                    continue
                if self.asked is None:
                    self._deadline = now_s + self._stop_grace_s
                self.asked = command.kind
        except CommandError as error:
            self._last_id = error.id
            self._warn(str(error))

"""Telling a trainer that works from one that hangs: by its beat, over the time in which the keeper itself could run."""

from pathlib import Path

from xoron_core.contract.beat import Beat, read_beat

_MAX_GAP_S = 1.0
"""A longer pause between two looks is the machine's (suspended, frozen), not the trainer's."""


class HangWatch:
    """Counts the time since the trainer's last sign of life, from its start on."""

    def __init__(self, beat_file: Path, hang_after_s: float) -> None:
        self._file = beat_file
        self._hang_after_s = hang_after_s
        self._beat = Beat(0, 0)
        self._silent_s = 0.0
        self._looked_s: float | None = None

    def is_hung(self, now_s: float) -> bool:
        """Whether there was no sign for too long as of `now_s` (monotonic)."""
        beat = read_beat(self._file)
        if beat != self._beat:
            self._beat, self._silent_s = beat, 0.0
        elif self._looked_s is not None:
            self._silent_s += min(now_s - self._looked_s, _MAX_GAP_S)
        self._looked_s = now_s
        return self._silent_s >= self._hang_after_s

    def reason(self, stopped: set[int]) -> str:
        """What to say of it; `stopped` are the processes that are held by SIGSTOP or a debugger."""
        held = f"; held by SIGSTOP or a debugger: process {', '.join(map(str, sorted(stopped)))}" if stopped else ""
        return f"no sign of life for {self._hang_after_s:g} s, at step {self._beat.step}{held}"

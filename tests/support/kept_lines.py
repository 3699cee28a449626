"""Lines of attempts under real keepers, with trainers that have no torch."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from server.runs.launchers.local import launch
from support.runs import begin_attempt, events, make_run, small_trainer, wait_for
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptExit

_TESTS = Path(__file__).parents[1]
_QUICK = {"restart_delay_s": 0.0}


class Line:
    """A run whose keeper a test started."""

    def __init__(self, runs: Path, behaviour: str, overrides: dict[str, Any]) -> None:
        self.behaviour = behaviour
        self.run = make_run(runs, overrides)
        self.keeper: subprocess.Popen[bytes] | None = None

    def start(self, attempt: int = 1) -> "Line":
        if not self.run.attempt_file(attempt).exists():
            begin_attempt(self.run, attempt)
        self.keeper = launch(self.run, attempt, trainer=small_trainer(self.behaviour))
        return self

    def start_oddly(self, oddity: str) -> "Line":
        """By a keeper of `odd_keeper.py`."""
        words = ["-m", "support.odd_keeper", oddity, self.behaviour, str(self.run.path), str(begin_attempt(self.run))]
        with self.run.log_file.open("ab") as log:
            self.keeper = subprocess.Popen([sys.executable, *words], cwd=_TESTS, stdout=log, stderr=log)
        return self

    def exits(self) -> list[AttemptExit]:
        """How all attempts ended, once the keeper is gone."""
        assert self.keeper is not None
        assert self.keeper.wait(timeout=30) == 0, self.log()
        return self.run.exits().attempts

    def log(self) -> str:
        return self.run.log_file.read_text(encoding="utf-8")

    def states(self) -> list[tuple[int, str]]:
        return [(one["attempt"], one["state"]) for one in events(self.run) if one["kind"] == "state"]

    def troubles(self) -> list[tuple[str, str | None]]:
        return [(one["action"], one["failure"]) for one in events(self.run) if one["kind"] == "trouble"]

    def until_phase(self, phase: str) -> None:
        wait_for(lambda: any(one.get("phase") == phase for one in events(self.run)))

    def trainer(self) -> ProcessIdentity:
        identity = wait_for(lambda: (record := self.run.keeper()) and record.trainer)
        assert isinstance(identity, ProcessIdentity)
        return identity


class MakeLine(Protocol):
    """Makes one, not started yet, of a behaviour of `small_trainer.py`."""

    def __call__(self, behaviour: str, trouble: dict[str, float] | None = None, **overrides: Any) -> Line: ...


@contextlib.contextmanager
def kept_lines(runs: Path) -> Iterator[MakeLine]:
    """Whatever is left of them in the end is killed."""
    lines: list[Line] = []

    def make(behaviour: str, trouble: dict[str, float] | None = None, **overrides: Any) -> Line:
        lines.append(Line(runs, behaviour, {"trouble": _QUICK | (trouble or {}), **overrides}))
        return lines[-1]

    yield make
    for one in lines:
        if one.keeper is not None and one.keeper.poll() is None:
            record = one.run.keeper()
            one.keeper.kill()
            if record is not None and record.trainer is not None and record.trainer.is_alive():
                os.kill(record.trainer.pid, signal.SIGKILL)
            one.keeper.wait(timeout=10)

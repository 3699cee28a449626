"""Run directories for tests, trainers for them, and waiting with a deadline."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from xoron_core.contract import clock
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.contract.tailer import EventTailer

T = TypeVar("T")


def make_run(runs: Path, overrides: dict[str, Any] | None = None) -> RunDirectory:
    """A run of the `demo` preset, created but not begun."""
    return RunDirectory.create(runs, new_record("a test", preset="demo"), resolve("demo", overrides))


def begin_attempt(run: RunDirectory, attempt: int = 1) -> int:
    """Write the attempt's file, as whoever starts a run does."""
    config = run.config().to_dict()
    run.write_attempt(
        AttemptRecord(attempt=attempt, reason="test", created_at=clock.now(), checkpoint=None, config=config)
    )
    return attempt


def small_trainer(behaviour: str) -> list[str]:
    """The command of a trainer without torch; see `small_trainer.py` for the behaviours."""
    return [sys.executable, str(Path(__file__).with_name("small_trainer.py")), behaviour]


def events(run: RunDirectory) -> list[dict[str, Any]]:
    """Every whole record of the run so far."""
    with EventTailer(run.path) as tailer:
        found: list[dict[str, Any]] = []
        while batch := tailer.poll():
            found += batch
    return found


def states(run: RunDirectory) -> list[str]:
    """The states that the run went through."""
    return [record["state"] for record in events(run) if record["kind"] == "state"]


def wait_for(what: Callable[[], T | Literal[False] | None], timeout_s: float = 20.0) -> T:
    """`what`'s first true value.

    Raises: TimeoutError when there is none in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.01)
    raise TimeoutError(f"nothing came of {what} in {timeout_s} s")

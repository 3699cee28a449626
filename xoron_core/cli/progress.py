"""What `xoron train` shows: a bar where there is a terminal, lines where there is none, JSON for programs."""

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from xoron_core.contract.run_directory import AttemptExit, RunDirectory

_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Takes a run's records one by one."""

    def show(self, record: dict[str, Any]) -> None:
        """The next record."""

    def say(self, text: str) -> None:
        """A word of the command's own."""

    def end(self, run: "RunDirectory", end: "AttemptExit | None") -> None:
        """How it ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonLines:
    """Every event as a line of JSON on stdout, then `{"exit": …}`."""

    def show(self, record: dict[str, Any]) -> None:
        """The record as it is."""
        self._write(record)

    def say(self, text: str) -> None:
        """On stderr."""
        sys.stderr.write(text + "\n")

    def end(self, run: "RunDirectory", end: "AttemptExit | None") -> None:
        """The exit record with the run's id and folder."""
        how = None if end is None else end.model_dump(mode="json")
        self._write({"run": run.id, "path": str(run.path), "exit": how})

    def _write(self, data: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Screen:
    """A bar with the newest losses; without a terminal, a line every ten seconds."""

    def __init__(self, run: "RunDirectory") -> None:
        self._run = run
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("starting", total=run.config().training.max_steps, values="")
        self._last_line_s = 0.0

    def show(self, record: dict[str, Any]) -> None:
        """Metrics move the bar; what changes the story is a line."""
        kind = record["kind"]
        if kind == "metrics":
            values = {name: value for name, value in record["values"].items() if name.endswith("/loss")}
            self._metrics(record["step"], _values(values or record["values"]))
        elif kind == "phase":
            self._bar.update(self._task, description=record["phase"])
        elif kind == "eval":
            self.say(f"evaluation at step {record['step']}: {_values(record['values'])}")
        elif kind == "checkpoint":
            self.say(f"checkpoint {record['path']}")
        elif kind in {"alert", "trouble", "bad_sample"}:
            self.say(f"{kind}: {record.get('message') or record.get('reason')}")
        elif kind == "state":
            self.say(_state(record))

    def _metrics(self, step: int, values: str) -> None:
        self._bar.update(self._task, completed=step, values=values)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now
            self.say(f"step {step}: {values}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text)

    def end(self, run: "RunDirectory", end: "AttemptExit | None") -> None:
        """Where everything is, and what to do where it failed."""
        if end is None:
            self.say(f"the keeper ended without telling how; see {run.log_file}")
        elif end.state == "failed":
            self.say(f"failed: {end.reason}\nsee {run.log_file}")
        self.say(f"run {run.id} in {run.path}")

    def __enter__(self) -> Self:
        self.say(f"run {self._run.id}; Ctrl-C stops with a checkpoint")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _state(record: dict[str, Any]) -> str:
    """A state with its reason; that of `recovering` was told with the trouble before it."""
    number, state, reason = record["attempt"], record["state"], record.get("reason")
    words = f"attempt {number}: {state}" if number > 1 else str(state)
    return f"{words}: {reason}" if reason and state != "recovering" else words


def _values(values: dict[str, Any], limit: int = 4) -> str:
    shown = [f"{name} {value:.4g}" for name, value in values.items() if value is not None]
    return "  ".join(shown[:limit])

"""A run whose events the test itself writes, with the test process standing in for the keeper."""

import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Literal, Self

from support.sample_files import MIMES, all_samples
from xoron_core.contract import clock
from xoron_core.contract.events import Event, MetricsEvent, SampleEvent, StateEvent, TroubleEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.files import to_json, write_atomic
from xoron_core.contract.home import Home
from xoron_core.contract.presets import resolve
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptRecord, KeeperRecord, RunDirectory, new_record
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter


class ScriptedRun:
    """Begun when it is made (attempt 1) or by `begin` (the next); `end` writes the end state and lets go."""

    def __init__(self, home: Home, overrides: dict[str, Any] | None = None, name: str = "scripted") -> None:
        config = resolve("demo", overrides)
        self.directory = RunDirectory.create(home.runs, new_record(name, preset="demo"), config)
        self.id = self.directory.id
        self.writer: EventWriter | None = None
        self._attempt = 0
        self.begin()

    def begin(self, checkpoint: str | None = None) -> None:
        """Start the next attempt, as a person does, and say that it runs."""
        record = self.directory.record()
        update = {"attempt": self._attempt + 1, "wanted": "running"}
        self.directory.write_record(record.model_copy(update=update))
        self._begin(checkpoint, "resumed")

    def fail_and_follow(self, failure: Failure, reason: str) -> None:
        """This attempt fails, and the next one begins by itself."""
        self.say(
            TroubleEvent(action="restart", failure=failure, reason=reason),
            StateEvent(state=RunState.RECOVERING, reason=reason),
        )
        self.release()
        self._begin(None, failure)

    def _begin(self, checkpoint: str | None, cause: Literal["resumed"] | Failure) -> None:
        self._attempt += 1
        now, config = clock.now(), self.directory.config().to_dict()
        attempt = AttemptRecord(
            attempt=self._attempt, cause=cause, reason="test", created_at=now, checkpoint=checkpoint, config=config
        )
        self.directory.write_attempt(attempt)
        keeper = KeeperRecord(attempt=self._attempt, keeper=ProcessIdentity.of_self(), started_at=now)
        write_atomic(self.directory.keeper_file, to_json(keeper))
        self.writer = EventWriter(self.directory.path, self._attempt)
        self.say(StateEvent(state=RunState.RUNNING))

    def say(self, *events: Event) -> int:
        """Write events; the number of the last."""
        assert self.writer is not None, "this run has ended"
        return [self.writer.append(event) for event in events][-1]

    def steps(self, numbers: Iterable[int], values: dict[str, float | None] | None = None) -> int:
        """Write the metrics of some steps; `text/loss` is `curve(step)` unless `values` say otherwise."""
        seq = 0
        for step in numbers:
            seq = self.say(MetricsEvent(step=step, tokens=512 * step, samples=4 * step, values=values or curves(step)))
        return seq

    def sample(self, step: int, stem: str, files: dict[str, bytes], caption: str, expected: str | None = None) -> int:
        """Write the files of one sample, content by suffix, and tell of them; the stem begins with the modality."""
        folder = self.directory.sample_dir(step)
        folder.mkdir(parents=True, exist_ok=True)
        seq = 0
        for suffix, content in files.items():
            (folder / f"{stem}.{suffix}").write_bytes(content)
            path = f"samples/{folder.name}/{stem}.{suffix}"
            told = {"step": step, "modality": stem.rsplit("-", 1)[0], "path": path, "mime": MIMES[suffix]}
            seq = self.say(SampleEvent(**told, caption=caption, expected=expected))
        return seq

    def samples(self, step: int) -> int:
        """Write samples of all seven modalities."""
        return [self.sample(step, *one) for one in all_samples()][-1]

    def end(self, state: RunState = RunState.COMPLETED, reason: str | None = None) -> int:
        """The end state, and no keeper any more."""
        seq = self.say(StateEvent(state=state, reason=reason))
        self.release()
        return seq

    def release(self) -> None:
        """As if keeper and trainer had died: the run's processes are gone, whatever it said last."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
            self.directory.keeper_file.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def curves(step: int) -> dict[str, float | None]:
    """What a step of the scripted run logs."""
    return {"text/loss": 1.0 + math.exp(-step / 100), "image_generation/loss": 2.0 - step / 10_000}

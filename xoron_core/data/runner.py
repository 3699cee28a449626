"""Jobs done where they are asked for, when their result is waited for."""

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from xoron_core.data.lane import Part
from xoron_core.data.preparation import Job, Preparation, Report
from xoron_core.data.records import MicroBatch

T = TypeVar("T")

PROGRESS_S = 0.02


class Here(Generic[T]):
    """A runner without workers. `finish` makes of a micro-batch what is wanted; `on_progress` is called every now and
    then."""

    ahead = 0

    def __init__(
        self, preparation: Preparation, finish: Callable[[MicroBatch], T], on_progress: Callable[[], None]
    ) -> None:
        self.preparation = preparation
        self.finish = finish
        self.on_progress = on_progress
        self._told_s = 0.0

    def start(self, job: Job) -> "RunningHere[T]":
        """Nothing is done yet."""
        return RunningHere(self.preparation.parts(job, self._note), self.finish)

    def close(self) -> None:
        """Let go of the sources."""
        self.preparation.close()

    def _note(self, place: int) -> None:
        if (now := time.monotonic()) >= self._told_s + PROGRESS_S:
            self._told_s = now
            self.on_progress()


class RunningHere(Generic[T]):
    """A job whose next piece is made when it is asked for."""

    def __init__(self, parts: Iterator[Report | MicroBatch], finish: Callable[[MicroBatch], T]) -> None:
        self._parts = parts
        self._finish = finish
        self._report: Report | None = None

    def report(self) -> Report:
        """What became of its tickets."""
        if self._report is None:
            report = next(self._parts)
            assert isinstance(report, Report)
            self._report = report
        return self._report

    def next_part(self) -> Part[T]:
        """The next micro-batch."""
        self.report()
        micro = next(self._parts)
        assert isinstance(micro, MicroBatch)
        return Part(self._finish(micro), micro.sample_ids, micro.begun)

    def close(self) -> None:
        """What was not asked for is never made."""

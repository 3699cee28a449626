"""Worker processes that do jobs ahead of their need.

Each has one job at a time and sends what comes of it through a pipe of its own. One that dies, or takes too long over a
row, is replaced, and its job is done again from where its micro-batches were received; a row that costs two workers
their lives is left out and counts as unreadable. What comes out is the same whoever does what.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from xoron_core.contract.errors import XoronError
from xoron_core.data.lane import Part
from xoron_core.data.preparation import Job, Preparation, Report
from xoron_core.data.records import MicroBatch
from xoron_core.data.wire import receive, send

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_DEATHS_AT_A_ROW = 2
MAX_DEATHS_IN_A_ROW = 3
"""Of workers that did nothing in between: the fault is not in the data."""
WAIT_S = 0.05


class WorkerError(XoronError):
    """Workers that cannot work: an error of the program, or a machine that kills them."""


@dataclass(frozen=True)
class _Done:
    """The job is done."""


@dataclass(frozen=True)
class _Failed:
    """The job ended by an error that is not one of the data."""

    text: str


class WorkerPool(Generic[T]):
    """A runner with workers. `finish` makes of a micro-batch what is wanted, in the worker; `allocate` gives the memory
    in which its tensors arrive. `on_wait` is called every now and then while something is waited for, `on_death` with
    what happened to a worker. `modules` are loaded once and shared by all workers.
    """

    def __init__(
        self,
        num_workers: int,
        preparation: Preparation,
        finish: Callable[[MicroBatch], T],
        *,
        ahead: int,
        timeout_s: float,
        modules: Sequence[str] = (),
        allocate: Callable[[int], Tensor] = lambda size: torch.empty(size, dtype=torch.uint8),
        on_wait: Callable[[], None] = lambda: None,
        on_death: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.ahead = ahead
        self.timeout_s = timeout_s
        self.allocate = allocate
        self.on_wait = on_wait
        self.on_death = on_death
        self.changed = threading.Condition()
        self.queue: deque[RunningThere[T]] = deque()
        self.failure: str | None = None
        self.deadly: set[tuple[int, int]] = set()  # rows, by source and index
        self._deaths_in_a_row = 0
        self._task = (preparation, finish)
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))
        self._is_closing = False
        self._workers = [self._start_worker() for _ in range(num_workers)]

    @property
    def pids(self) -> list[int]:
        """The workers' processes."""
        with self.changed:
            return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def start(self, job: Job) -> "RunningThere[T]":
        """Put a job at the end of the queue."""
        running = RunningThere(self, job)
        with self.changed:
            self.queue.append(running)
            self._give_out()
        return running

    def close(self) -> None:
        """End the workers."""
        with self.changed:
            self._is_closing = True
            self.queue.clear()
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.kill()  # they hold nothing that wants an orderly end
        for worker in workers:
            worker.thread.join()
            worker.process.join()
            worker.process.close()

    def check(self) -> None:
        """Replace workers that take too long. Raises: WorkerError when they cannot work."""
        self.on_wait()
        with self.changed:
            if self.failure is not None:
                raise WorkerError(self.failure)
            for worker in self._workers:
                if worker.running is not None and worker.stuck_s() > self.timeout_s:
                    log.warning("a worker takes more than %g s over one row and is replaced", self.timeout_s)
                    worker.process.kill()

    def _start_worker(self) -> "_Worker[T]":
        ours, theirs = self._context.Pipe()
        place = self._context.RawValue("q", -1)
        process = self._context.Process(target=_serve, args=(theirs, place, *self._task), daemon=True)
        process.start()
        theirs.close()
        worker: _Worker[T] = _Worker(process, ours, place)
        worker.thread = threading.Thread(target=self._receive_all, args=(worker,), name="worker's results", daemon=True)
        worker.thread.start()
        return worker

    def _give_out(self) -> None:
        """Jobs that wait to workers that are free. The lock is held; a free worker reads, so that sending is quick."""
        for worker in self._workers:
            if worker.running is None and self.queue:
                running = self.queue.popleft()
                worker.take(running)

    def _receive_all(self, worker: "_Worker[T]") -> None:
        """A thread for each worker: what it sends, until it is gone."""
        try:
            while True:
                self._note(worker, receive(worker.connection, self.allocate))
        except (EOFError, OSError):
            log.debug("a worker is gone, perhaps in the middle of a message")
        except Exception as error:  # boundary: a thread has nobody who would hear of it
            log.exception("what a worker sent cannot be received")
            worker.process.kill()
            with self.changed:
                self.failure = self.failure or f"what a worker sent cannot be received: {error}"
        with self.changed:
            worker.connection.close()
            worker.process.join()  # under the lock, for whoever starts a process asks after the others' statuses
            try:
                if not self._is_closing:
                    self._replace(worker)
            except Exception as error:  # boundary: a thread has nobody who would hear of it
                log.exception("a data worker cannot be replaced")
                self.failure = self.failure or f"a data worker cannot be replaced: {error}"
            self.changed.notify_all()

    def _note(self, worker: "_Worker[T]", message: Any) -> None:
        with self.changed:
            running = worker.running
            assert running is not None
            worker.has_worked = True
            match message:
                case Report():
                    if running.found_report is not None and running.found_report != message:
                        self.failure = "what a worker read before it died, another finds otherwise; see to the sources"
                    running.found_report = message
                case Part():
                    running.parts.append(message)
                    running.num_received += 1
                case _Failed(text):
                    self.failure = self.failure or text
                case _Done():
                    worker.running = None
                    self._give_out()
            self.changed.notify_all()

    def _replace(self, worker: "_Worker[T]") -> None:
        """Another in the place of one that is gone; its job comes first. The lock is held."""
        place = worker.place.value
        self._deaths_in_a_row = 0 if worker.has_worked or place >= 0 else self._deaths_in_a_row + 1
        code = worker.process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with status {code}"
        if (running := worker.running) is not None and not running.is_closed:
            self.queue.appendleft(running)
            if running.note_death(place) > MAX_DEATHS_IN_A_ROW:
                self.failure = (
                    f"{MAX_DEATHS_IN_A_ROW + 1} workers ended {how} while they put together one micro-batch of "
                    f"{running.job.modality}; see whether the machine has memory for it, or set data.num_workers to 0"
                )
        if self._deaths_in_a_row > MAX_DEATHS_IN_A_ROW:
            self.failure = (
                f"{self._deaths_in_a_row} workers in a row ended {how} before they did anything; see whether the "
                "machine has memory for data.num_workers of them, or set it to 0"
            )
        if self.failure is not None:
            return
        self.on_death(f"a data worker ended {how}; another does its work again")
        worker.process.close()
        at = self._workers.index(worker)
        del self._workers[at]
        self._workers.insert(at, self._start_worker())
        self._give_out()


class _Worker(Generic[T]):
    """One process, the pipe to it, and the place of the ticket that it reads (-1: none)."""

    thread: threading.Thread

    def __init__(self, process: ForkServerProcess, connection: Connection, place: Any) -> None:
        self.process = process
        self.connection = connection
        self.place = place
        self.running: RunningThere[T] | None = None
        self.has_worked = False
        self._seen = (-1, 0.0)  # the place last seen, and since when

    def take(self, running: "RunningThere[T]") -> None:
        """Give it a job. Where it died meanwhile, whoever receives from it will see."""
        self.running = running
        self._seen = (-1, time.monotonic())
        with suppress(OSError):
            self.connection.send(running.rest)

    def stuck_s(self) -> float:
        """Seconds that it has spent on the row that it reads."""
        place, now = self.place.value, time.monotonic()
        if place < 0 or place != self._seen[0]:
            self._seen = (place, now)
        return now - self._seen[1]


class RunningThere(Generic[T]):
    """A job that a worker does, or will do."""

    def __init__(self, pool: WorkerPool[T], job: Job) -> None:
        self.pool = pool
        self.job = job
        self.parts: deque[Part[T]] = deque()
        self.found_report: Report | None = None
        self.num_received = 0
        self.is_closed = False
        self._deaths: Counter[int] = Counter()

    @property
    def rest(self) -> Job:
        """What is still to be done of it."""
        if self.found_report is None and self.pool.deadly:  # once it is reported, the same rows are left out again
            rows = [(ticket.source, ticket.index) for ticket in self.job.tickets]
            deadly = frozenset(place for place, row in enumerate(rows) if row in self.pool.deadly)
            self.job = replace(self.job, deadly=deadly)
        return replace(self.job, first=self.job.first + self.num_received)

    def report(self) -> Report:
        """What became of its tickets."""
        self._wait(lambda: self.found_report is not None)
        assert self.found_report is not None
        return self.found_report

    def next_part(self) -> Part[T]:
        """The next micro-batch."""
        self._wait(lambda: bool(self.parts))
        with self.pool.changed:
            return self.parts.popleft()

    def close(self) -> None:
        """Nothing more is wanted of it; what a worker has begun it finishes."""
        with self.pool.changed:
            self.is_closed = True
            if self in self.pool.queue:
                self.pool.queue.remove(self)

    def note_death(self, place: int) -> int:
        """Its worker died at a ticket (-1: at none); how many died at none. The lock is held."""
        self._deaths[place] += 1
        if place >= 0 and self._deaths[place] >= MAX_DEATHS_AT_A_ROW:
            ticket = self.job.tickets[place]
            self.pool.deadly.add((ticket.source, ticket.index))
        return self._deaths[-1]

    def _wait(self, is_there: Callable[[], bool]) -> None:
        """Until it is there; a job that nobody has begun goes before all others."""
        with self.pool.changed:
            if not is_there() and self in self.pool.queue:
                self.pool.queue.remove(self)
                self.pool.queue.appendleft(self)
        while True:
            with self.pool.changed:
                if self.pool.changed.wait_for(is_there, WAIT_S):
                    return
            self.pool.check()


def _serve(connection: Connection, place: Any, preparation: Preparation, finish: Callable[[MicroBatch], T]) -> None:
    """The life of a worker: a job after the other, until nobody is there to give one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the trainer is asked to end, not its workers
    torch.set_num_threads(1)
    with closing(preparation), suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                _do(job, connection, place, preparation, finish)
            except ConnectionError:  # nobody listens any more
                return
            except Exception:  # boundary: whatever it is, the trainer must hear of it
                log.exception("a data worker cannot do its job")
                send(connection, _Failed(traceback.format_exc()))


def _do(
    job: Job, connection: Connection, place: Any, preparation: Preparation, finish: Callable[[MicroBatch], T]
) -> None:
    def note(at: int) -> None:
        place.value = at

    for made in preparation.parts(job, note):
        if isinstance(made, MicroBatch):
            send(connection, Part(finish(made), made.sample_ids, made.begun))
        else:
            send(connection, made)
    send(connection, _Done())


def default_num_workers(num_ranks_here: int) -> int:
    """A share of this machine's cores, at most 8, but one at least."""
    return max(1, min(8, len(os.sched_getaffinity(0)) // num_ranks_here - 1))

"""One look at all runs: which are still live, which interrupted ones go on, which waiting ones start."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.db import DatabaseTroubleError
from server.errors import NotFoundError
from server.gpus.leases import Lease
from server.gpus.pool import GpuPool
from server.runs import leftovers, store
from server.runs.attempts import begin_attempt, newest_config, resumed_config
from server.runs.children import Children, Process
from server.runs.index import RunIndex, has_unread
from server.runs.interrupted import Stay, after_interruption
from server.runs.leftovers import Leaving
from server.runs.queue import Hold, after_reason, leaving_reason, slots_reason
from server.runs.service import RunService
from server.runs.store import RunRow
from xoron_core.contract.api import Waiting
from xoron_core.contract.errors import XoronError
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""After a disk or a file refused the start of a run."""
KEEPER_START_S = 10.0
"""What a keeper that was started needs at most until it says so."""


class Launch(Protocol):
    """Starts the keeper of an attempt in a session of its own; it inherits the leases."""

    def __call__(self, run: RunDirectory, attempt: int, *, leases: Sequence[Lease]) -> Process:
        """The started process."""


@dataclass(frozen=True)
class _Needs:
    """What a waiting run's configuration says about its start."""

    num_gpus: int
    min_free_gib: float
    grace_s: float


@dataclass(frozen=True)
class _Delay:
    """An attempt that is not started before a moment of the monotonic clock."""

    attempt: int
    until_s: float
    hold: Hold


class Dispatcher:
    """First by priority, then by place; at most `max_runs` live at once, each GPU with one run."""

    def __init__(
        self,
        service: RunService,
        index: RunIndex,
        children: Children,
        launch: Launch,
        pool: GpuPool,
        max_runs: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._index = index
        self._children = children
        self._launch = launch
        self._pool = pool
        self._max_runs = max_runs
        self._now_s = now_s
        self._needs: dict[tuple[str, int, str], _Needs] = {}
        self._delays: dict[str, _Delay] = {}
        self._leaving = Leaving(now_s)
        self._launch_errors: dict[str, tuple[int, str]] = {}
        self._silent: dict[str, tuple[int, float]] = {}
        self._left_alone: dict[str, int] = {}
        self._unreadable: set[str] = set()
        self.kept_slots: Sequence[str] = ()
        """Runs that took a slot at the last look although they were not live; any thread may read it."""

    def tick(self) -> bool:
        """Look once; whether something is about to change that nobody will tell of."""
        self._look_at_live()
        self._resume_interrupted()
        while self._start_next():
            pass
        return self._leaving.is_urgent()

    def _look_at_live(self) -> None:
        with self._index.database.read() as connection:
            live = store.live_ids(connection)
        ended = self._children.reap()
        for run_id in {*live, *ended}:
            try:
                row = self._index.refresh(run_id)
            except NotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 -- boundary: one run's trouble must not keep the others from starting
                log.warning("run %s cannot be looked at: %s: %s", run_id, type(error).__name__, error)
                continue
            if run_id in ended and row.state is RunState.INTERRUPTED and _was_never_heard(row):
                words = f"its keeper ended with status {ended[run_id]} before it began; train.log may say why"
                self._launch_errors[run_id] = (row.attempt, words)

    def _resume_interrupted(self) -> None:
        with self._index.database.read() as connection:
            interrupted = store.interrupted(connection)
        known = {row.id for row in interrupted}
        self._unreadable &= known
        for memory in (self._left_alone, self._silent):
            for run_id in memory.keys() - known:
                del memory[run_id]
        for row in interrupted:
            if self._left_alone.get(row.id) == row.attempt:
                continue
            with self._service.lock:
                try:
                    self._resume(row.id)
                    self._unreadable.discard(row.id)
                except DatabaseTroubleError:  # nothing is wrong with the run
                    raise
                except (XoronError, OSError) as error:
                    if row.id not in self._unreadable:
                        log.warning("run %s is interrupted and cannot be looked at: %s", row.id, error)
                    self._unreadable.add(row.id)

    def _resume(self, run_id: str) -> None:
        row = self._index.refresh(run_id)
        run = self._index.directory(run_id)
        if row.state is not RunState.INTERRUPTED or leftovers.has_keeper(run) or has_unread(run, row.cursor):
            return
        attempt, words = self._launch_errors.get(run_id, (0, ""))
        error = words if attempt == row.attempt else None
        if error is None and _was_never_heard(row) and not self._is_given_up(row):
            return
        decision = after_interruption(run, row, error)
        if isinstance(decision, Stay):
            self._leave_alone(run, row, decision.reason)
            return
        log.warning("run %s is resumed: %s", run_id, decision.reason)
        resumed = self._service.resume_by_itself(run, row, decision.checkpoint)
        hold = Hold(decision.reason, takes_slot=True)
        self._delays[run_id] = _Delay(resumed.attempt, self._now_s() + decision.delay_s, hold)

    def _leave_alone(self, run: RunDirectory, row: RunRow, reason: str) -> None:
        """Let a person decide. It keeps its slot until its processes are gone."""
        if row.standing.why != reason:
            log.warning("run %s stays interrupted: %s", run.id, reason)
            self._index.stand(run.id, RunState.INTERRUPTED, why=reason)
        if not self._leaving.holds(run, row.attempt, newest_config(run, row.attempt).trouble.stop_grace_s):
            self._left_alone[run.id] = row.attempt

    def _is_given_up(self, row: RunRow) -> bool:
        """Whether a keeper that somebody else (a server before this one) has started had its time to say so."""
        attempt, since_s = self._silent.setdefault(row.id, (row.attempt, self._now_s()))
        if attempt != row.attempt:
            self._silent[row.id] = (row.attempt, self._now_s())
            return False
        return self._now_s() - since_s >= KEEPER_START_S

    def _start_next(self) -> bool:
        """Start the first of the waiting runs that can be; the others are told why they wait."""
        with self._service.lock:
            with self._index.database.read() as connection:
                if not self._index.database.is_whole.is_set():  # it may lack runs that are live
                    return False
                waiting, live = store.queue(connection), store.live_names(connection)
                interrupted = store.interrupted(connection)
            self._forget_others(waiting, interrupted)
            holds = {row.id: hold for row in waiting if (hold := self._hold(row)) is not None}
            kept = {row.id: row.record.name for row in waiting if row.id in holds and holds[row.id].takes_slot}
            kept |= {row.id: row.record.name for row in interrupted if self._is_undecided(row)}
            self.kept_slots, taken_by = tuple(kept), live | kept
            before: RunRow | None = None
            gpus_go_to: RunRow | None = None
            for position, row in enumerate(waiting, 1):
                reason = self._try(row, holds.get(row.id), taken_by, before, gpus_go_to)
                if reason is None:
                    return True
                self._index.stand(row.id, RunState.QUEUED, waiting=Waiting(position=position, reason=reason))
                hold = holds.get(row.id)
                if hold is None or hold.takes_slot:
                    before = row
                    if gpus_go_to is None and self._needs_of(row).num_gpus:
                        gpus_go_to = row
            return False

    def _is_undecided(self, row: RunRow) -> bool:
        """Whether an interrupted run may yet go on, or its processes are still there."""
        return row.id not in self._unreadable and self._left_alone.get(row.id) != row.attempt

    def _try(
        self,
        row: RunRow,
        hold: Hold | None,
        taken_by: Mapping[str, str],
        before: RunRow | None,
        gpus_go_to: RunRow | None,
    ) -> str | None:
        """Start a run, or say why it waits."""
        if hold is not None:
            return hold.reason
        if len(taken_by) >= self._max_runs:
            if before is not None and before.id not in taken_by:
                return after_reason(before.id, before.record.name)
            return slots_reason(taken_by, self._max_runs)
        num_gpus = self._needs_of(row).num_gpus
        if num_gpus and gpus_go_to is not None:
            return after_reason(gpus_go_to.id, gpus_go_to.record.name)
        try:
            leases = self._pool.take(num_gpus, self._index.directory(row.id)) if num_gpus else []
            if leases is None:
                return self._pool.shortage(num_gpus)
        except OSError as error:
            return self._put_off(row, error)
        try:
            return self._begin(row, leases)
        finally:
            for lease in leases:
                lease.release()  # the keeper has its own copies by now

    def _begin(self, row: RunRow, leases: Sequence[Lease]) -> str | None:
        """Start the keeper of a waiting run; why it waits on, where that failed before anything was begun."""
        run = self._index.directory(row.id)
        with self._children.expected(row.id, row.attempt):
            try:
                now = self._index.refresh(row.id)
                if (now.state, now.record) != (row.state, row.record):
                    return None
                begin_attempt(run, row.record)
            except (XoronError, OSError) as error:
                return self._put_off(row, error)
            try:
                self._children.add(row.id, row.attempt, self._launch(run, row.attempt, leases=leases))
            except OSError as error:
                log.error("run %s could not be launched: %s", row.id, error)  # noqa: TRY400 -- the message says it all
                self._launch_errors[row.id] = (row.attempt, str(error))
            else:
                log.info("launched run %s, attempt %s", row.id, row.attempt)
        if self._index.refresh(row.id).state is RunState.INTERRUPTED:
            self._resume(row.id)
        return None

    def _put_off(self, row: RunRow, error: Exception) -> str:
        """Try the start of a run again later; why it waits."""
        log.error("run %s could not be begun: %s", row.id, error)
        hold = Hold(f"could not be begun, and is tried again: {error}")
        self._delays[row.id] = _Delay(row.attempt, self._now_s() + RETRY_S, hold)
        return hold.reason

    def _hold(self, row: RunRow) -> Hold | None:
        """Why a run cannot start yet, whatever the others do."""
        wanted = row.record.wanted
        try:
            if wanted != "running" and self._index.refresh(row.id).state is not RunState.QUEUED:
                return Hold(f"is {wanted} by now")
            run = self._index.directory(row.id)
            needs = self._needs_of(row)
        except (XoronError, OSError) as error:
            return Hold(f"cannot be read: {error}")
        if (delay := self._delays.get(row.id)) is not None:
            if delay.attempt == row.attempt and self._now_s() < delay.until_s:
                return delay.hold
            del self._delays[row.id]
        if self._leaving.holds(run, row.attempt - 1, needs.grace_s):
            return Hold(leaving_reason(wanted), takes_slot=True)
        if needs.num_gpus > self._pool.count:
            return Hold(f"wants {needs.num_gpus} GPUs, and this server has {self._pool.count}; stop it and resume it")
        free = self._index.home.free_gib()
        if free < needs.min_free_gib:
            return Hold(
                f"waits for room on the disk: {needs.min_free_gib:g} GiB must be free at {self._index.home.path}"
            )
        return None

    def _needs_of(self, row: RunRow) -> _Needs:
        key = (row.id, row.attempt, repr(row.record.resume_config))
        if key not in self._needs:
            config = resumed_config(self._index.directory(row.id), row.attempt, row.record.resume_config)
            num_gpus = config.resources.num_gpus(host_has_gpus=self._pool.count > 0)
            self._needs[key] = _Needs(num_gpus, config.trouble.min_free_disk_gib, config.trouble.stop_grace_s)
        return self._needs[key]

    def _forget_others(self, waiting: Sequence[RunRow], interrupted: Sequence[RunRow]) -> None:
        """What is remembered of runs that wait no more."""
        known = {row.id for row in waiting}
        self._needs = {key: needs for key, needs in self._needs.items() if key[0] in known}
        self._leaving.forget_others(known | {row.id for row in interrupted})
        self._delays = {run_id: delay for run_id, delay in self._delays.items() if run_id in known}


def _was_never_heard(row: RunRow) -> bool:
    """Whether nobody has said anything in the newest attempt."""
    return row.facts.state is None or row.facts.state.attempt < row.attempt

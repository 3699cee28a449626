"""The thread that keeps the index up with the events of all runs."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from server.db import DatabaseTroubleError
from server.errors import NotFoundError
from server.metrics.follower import Follower, RewrittenError, StaleError
from server.runs.index import RunIndex
from server.runs.leftovers import has_processes
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.segments import LIVE_NAME
from xoron_core.contract.states import ENDED, LIVE

log = logging.getLogger(__name__)

POLL_S = 0.03
IDLE_POLL_S = 1.0
RETRY_S = 5.0
TEND_S = 0.5
"""How often the index itself is looked at."""
COMMIT_S = 0.1
"""Metrics wait this long for company; a change of state does not wait."""
SETTLE_S = 0.2
READ_BYTES = 1 << 20


@dataclass
class _Followed:
    """A run under watch."""

    follower: Follower
    is_live: bool = True
    has_been_current: bool = False
    seen: tuple[int, int] | None = None
    due: float = 0.0
    committed: float = 0.0
    settle_due: float = 0.0


@dataclass
class Listeners:
    """Who is told of what reached the index."""

    on_events: list[Callable[[str, list[dict[str, Any]]], None]] = field(default_factory=list)
    on_end: list[Callable[[str], None]] = field(default_factory=list)


class Ingest:
    """Follows every run: the live ones every 30 ms, the others once a second by a look at the file's size."""

    def __init__(self, index: RunIndex, listeners: Listeners) -> None:
        self.has_caught_up = index.database.is_whole
        self._index = index
        self._listeners = listeners
        self._followed: dict[str, _Followed] = {}
        self._bad: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._requests: queue.SimpleQueue[tuple[str, Future[None] | None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._next_scan = 0.0
        self._next_tend = 0.0
        self._has_scanned = False
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    def start(self) -> None:
        """Begin with catching up."""
        self._thread.start()

    def close(self) -> None:
        """End after the pass that is under way."""
        self._stop.set()
        self._requests.put(("", None))
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    @property
    def problems(self) -> dict[str, str]:
        """Run → why it cannot be read, or not to its end."""
        return dict(self._problems)

    def wake(self, run_id: str) -> None:
        """Look at a run now, from any thread."""
        self._requests.put((run_id, None))

    def catch_up(self, run_id: str, timeout_s: float = 30) -> None:
        """Wait until what a run's files hold now is in the index.

        Raises: DatabaseTroubleError.
        """
        done: Future[None] = Future()
        self._requests.put((run_id, done))
        done.result(timeout_s)

    def forget(self, run_id: str) -> None:
        """Stop following a run that is about to be moved; waits until its files are let go."""
        done: Future[None] = Future()
        self._requests.put((f"-{run_id}", done))
        done.result(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._index_is_well():
                self._serve(TEND_S)
                continue
            now = time.monotonic()
            if now >= self._next_scan:
                self._scan_guarded()
                self._next_scan = now + IDLE_POLL_S
            due = [run_id for run_id, one in self._followed.items() if one.due <= now]
            progress = [self._guarded(run_id, self._poll) for run_id in due]
            if self._is_complete():
                self.has_caught_up.set()
            self._serve(0 if any(progress) else POLL_S)
        for one in self._followed.values():
            one.follower.pause()

    def _is_complete(self) -> bool:
        is_usable = self._index.database.trouble is None and self._has_scanned
        return is_usable and all(one.has_been_current for one in self._followed.values())

    def _index_is_well(self) -> bool:
        """Whether the index can be used; when it could not, everything begins again from what it holds then."""
        database = self._index.database
        now = time.monotonic()
        if now < self._next_tend and database.trouble is None:
            return True
        self._next_tend = now + TEND_S
        if database.is_well():
            return True
        self._let_go()
        return database.heal()

    def _let_go(self) -> None:
        self.has_caught_up.clear()
        self._has_scanned, self._next_scan = False, 0.0
        for one in self._followed.values():
            one.follower.pause()
        self._followed.clear()

    def _serve(self, timeout_s: float) -> None:
        """Answer requests of other threads; the first is waited for so long."""
        try:
            while True:
                run_id, done = self._requests.get(timeout=timeout_s) if timeout_s else self._requests.get_nowait()
                timeout_s = 0
                self._answer(run_id, done)
        except queue.Empty:
            return

    def _answer(self, request: str, done: Future[None] | None) -> None:
        trouble = self._index.database.trouble
        if trouble is not None and request and not request.startswith("-"):
            if done is not None:
                done.set_exception(DatabaseTroubleError(trouble))
            return
        if request.startswith("-"):
            if (gone := self._followed.pop(request[1:], None)) is not None:
                gone.follower.pause()
        elif request:
            if request not in self._followed:
                self._scan_guarded()
            one = self._followed.get(request)
            if one is not None:
                one.is_live, one.due, one.settle_due = True, 0.0, 0.0
                while done is not None and self._guarded(request, self._poll) and not self._stop.is_set():
                    pass
                if done is not None and one.follower.pending:
                    self._guarded(request, self._commit)
        if done is not None:
            done.set_result(None)

    def _scan_guarded(self) -> None:
        try:
            self._scan()
            self._has_scanned = True
        except DatabaseTroubleError:
            return  # known and told; this thread waits until it is over
        except Exception:  # boundary: a full disk, say; this thread goes on, the next look is soon
            log.exception("looking for runs failed; trying again in %s s", IDLE_POLL_S)

    def _scan(self) -> None:
        """Take in runs that appeared, drop those that went."""
        found = {run.id: run for run in self._index.home.run_directories()}
        for run_id in set(self._followed) - set(found):
            self._followed.pop(run_id).follower.pause()
            self._problems.pop(run_id, None)
            self._index.remove(run_id)
        if not self.has_caught_up.is_set():
            for run_id in set(self._index.known()) - set(found):
                self._index.remove(run_id)
        for run_id, run in found.items():
            if run_id not in self._followed:
                self._follow(run)

    def _follow(self, run: RunDirectory) -> None:
        """Take a run in. One whose record is malformed is tried again when that has changed; others, at every scan."""
        try:
            changed = run.run_file.stat().st_mtime
            if self._bad.get(run.id) == changed:
                return
            row = self._index.refresh(run.id)
        except (NotFoundError, FileNotFoundError):
            return
        except DatabaseTroubleError:  # nothing is wrong with the run
            raise
        except Exception as error:  # noqa: BLE001 -- boundary: a run that nobody can read must not hide the others
            problem = f"{type(error).__name__}: {error}"
            if self._problems.get(run.id) != problem:
                log.warning("run %s is left out: %s", run.id, problem)
            self._problems[run.id] = problem
            if not isinstance(error, OSError):
                self._bad[run.id] = changed
            return
        self._problems.pop(run.id, None)
        self._followed[run.id] = _Followed(Follower(self._index, run, row))

    def _guarded(self, run_id: str, work: Callable[[str, _Followed], bool]) -> bool:
        one = self._followed.get(run_id)
        if one is None:
            return False
        try:
            return work(run_id, one)
        except DatabaseTroubleError:  # known and told; the run is taken in again when it is over
            self._followed.pop(run_id).follower.pause()
            return False
        except StaleError as error:
            log.warning("%s; reading on from there", error)
            self._reopen(run_id, one, 0.0)
            return False
        except RewrittenError as error:
            log.warning("%s; reading them from the beginning", error)
            self._reopen(run_id, one, 0.0, is_anew=True)
            return False
        except Exception as error:  # boundary: one run's trouble; the others go on, this one is tried again
            log.exception("following %s failed; trying again in %s s", run_id, RETRY_S)
            self._problems[run_id] = f"{type(error).__name__}: {error}"
            one.has_been_current = True  # as far as it can be
            self._reopen(run_id, one, RETRY_S)
            return False

    def _reopen(self, run_id: str, one: _Followed, after_s: float, *, is_anew: bool = False) -> None:
        """Begin again from what the index holds: what was folded but not committed is read once more."""
        one.follower.pause()
        try:
            if is_anew:
                self._index.forget_events(run_id)
            one.follower = Follower(self._index, one.follower.run, self._index.row(run_id))
        except Exception as error:  # noqa: BLE001 -- boundary: whatever it is, the next scan meets it again and tells of it
            log.warning("run %s is let go: %s: %s", run_id, type(error).__name__, error)
            del self._followed[run_id]
        one.due = time.monotonic() + after_s

    def _poll(self, run_id: str, one: _Followed) -> bool:
        """Read what is new and commit it when it is time to; whether anything was done."""
        now = time.monotonic()
        if not one.is_live and one.seen == _seen(one.follower.run):
            one.due = now + IDLE_POLL_S
            return False
        one.is_live = True
        has_read = one.follower.read(READ_BYTES)
        one.has_been_current |= not has_read or one.follower.lag_bytes() < READ_BYTES
        if one.follower.pending:
            if one.follower.must_commit or now - one.committed >= COMMIT_S:
                self._commit(run_id, one)
                one.committed = time.monotonic()
        elif now >= one.settle_due:
            one.settle_due = now + SETTLE_S
            self._settle(run_id, one)
        if not has_read:
            one.due = now + (POLL_S if one.is_live else IDLE_POLL_S)
        return has_read

    def _commit(self, run_id: str, one: _Followed) -> bool:
        records = one.follower.commit()
        self._problems.pop(run_id, None)
        for tell in self._listeners.on_events:
            tell(run_id, records)
        return True

    def _settle(self, run_id: str, one: _Followed) -> None:
        """Nothing new: a run that is at rest and whose processes are gone is looked at rarely from here on."""
        row = self._index.row(run_id)
        if row.state in LIVE or has_processes(one.follower.run):
            return
        seen = _seen(one.follower.run)
        if one.follower.read(READ_BYTES):  # what its last process wrote before it went
            return
        one.is_live, one.seen = False, seen
        one.follower.pause()
        if row.state in ENDED:
            for tell in self._listeners.on_end:
                tell(run_id)


def _seen(run: RunDirectory) -> tuple[int, int]:
    """Which file the newest events are in, and how large it is."""
    try:
        status = os.stat(run.path / LIVE_NAME)  # noqa: PTH116 -- called for every run once a second
    except FileNotFoundError:
        return (0, 0)
    return (status.st_ino, status.st_size)

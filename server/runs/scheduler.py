"""The thread that launches what waits, notices keepers that died and takes the status of those that ended."""

import logging
import subprocess
import threading
from collections.abc import Callable

from server.errors import NotFoundError
from server.runs import store
from server.runs.attempts import begin_attempt
from server.runs.children import Children
from server.runs.index import RunIndex
from server.runs.service import RunService
from xoron_core.contract.errors import XoronError
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState

log = logging.getLogger(__name__)

CHECK_S = 0.25
Launch = Callable[[RunDirectory, int], subprocess.Popen[bytes]]
"""Starts the keeper of an attempt in a session of its own."""


class Scheduler:
    """First by priority, then by the moment of creation; at most `max_runs` live at once."""

    def __init__(self, service: RunService, index: RunIndex, children: Children, launch: Launch, max_runs: int) -> None:
        self._service = service
        self._index = index
        self._children = children
        self._launch = launch
        self._max_runs = max_runs
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self, ready: threading.Event) -> None:
        """Begin once `ready` is set: before that, the index may not know yet what runs."""
        self._ready = ready
        self._thread.start()

    def close(self) -> None:
        """End; keepers live on."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._children.release()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Look at the queue now; any thread."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set() and not self._ready.wait(CHECK_S):
            pass
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._check_live()
                self._launch_next()
            except Exception:  # boundary: a busy or full disk, say; tried again at the next turn
                log.exception("the queue could not be looked at")
            self._wake.wait(CHECK_S)

    def _check_live(self) -> None:
        with self._index.database.read() as connection:
            live = store.live_ids(connection)
        for run_id in {*live, *self._children.reap()}:
            try:
                self._index.refresh(run_id)
            except NotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 -- boundary: one run's trouble must not keep the others from starting
                log.warning("run %s cannot be looked at: %s: %s", run_id, type(error).__name__, error)

    def _launch_next(self) -> None:
        while not self._stop.is_set():
            with self._service.lock:
                with self._index.database.read() as connection:
                    waiting, num_live = store.queue(connection), len(store.live_ids(connection))
                if not waiting or num_live >= self._max_runs:
                    return
                if not any(self._begin(row.id) for row in waiting):
                    return

    def _begin(self, run_id: str) -> bool:
        """Start the keeper of a waiting run; False when it waits on."""
        try:
            run = self._index.directory(run_id)
            row = self._index.refresh(run_id)
            if row.state is not RunState.QUEUED:
                return True
            begin_attempt(run, row.record)
            self._children.add(run_id, row.attempt, self._launch(run, row.attempt))
        except (XoronError, OSError) as error:
            log.error("run %s could not be launched: %s", run_id, error)  # noqa: TRY400 -- the message says it all
            return False
        log.info("launched run %s, attempt %s", run_id, row.attempt)
        self._index.refresh(run_id)
        return True

"""The thread that looks at all runs, again and again."""

import logging
import threading

from server.db import DatabaseTroubleError
from server.runs.children import Children
from server.runs.dispatcher import Dispatcher

log = logging.getLogger(__name__)

CHECK_S = 0.25
SOON_S = 0.03


class Scheduler:
    """Launches what waits, notices keepers that died and takes the status of those that ended."""

    def __init__(self, dispatcher: Dispatcher, children: Children) -> None:
        self._dispatcher = dispatcher
        self._children = children
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self, ready: threading.Event) -> None:
        """Work while `ready` is set: when it is not, the index may not know what runs."""
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
        while not self._stop.is_set():
            if not self._ready.wait(CHECK_S):
                continue
            self._wake.clear()
            is_urgent = False
            try:
                is_urgent = self._dispatcher.tick()
            except DatabaseTroubleError:
                pass  # known and told; `ready` is cleared until it is over
            except Exception:  # boundary: a busy or full disk, say; tried again at the next turn
                log.exception("the queue could not be looked at")
            self._wake.wait(SOON_S if is_urgent else CHECK_S)

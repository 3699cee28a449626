"""Room on the run's disk: how much is missing, and standing still until it is there."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from xoron_core.contract.events import LogEvent, PhaseEvent, TroubleEvent
from xoron_core.training.control import Control, EventSink
from xoron_core.training.metrics import now

RETRY_S = 0.5
REST_PER_TRY, MAX_REST_S = 10.0, 60.0
"""A try that takes long, since it writes a large checkpoint until the disk refuses it, is followed by a longer rest."""
_GIB = 2**30


class Disk:
    """The disk that a run writes to, of which `min_free_gib` are to stay free."""

    def __init__(self, path: Path, min_free_gib: float, events: EventSink) -> None:
        self.path = path
        self.min_free_gib = min_free_gib
        self.events = events

    def shortage(self, num_bytes: int = 0) -> str | None:
        """What is missing to write so much more, as a person wants to read it; None when there is room."""
        free, needed = shutil.disk_usage(self.path).free / _GIB, num_bytes / _GIB + self.min_free_gib
        if self.events.is_stalled and not self.events.flush():
            return f"the disk refuses the run's events, with {free:.2f} GiB free; {self._cure()}"
        if free < needed:
            what = "trouble.min_free_disk_gib" if num_bytes == 0 else "a checkpoint and trouble.min_free_disk_gib"
            return f"{free:.2f} GiB are free, {needed:.2f} are needed ({what}); {self._cure()}"
        return None

    def _cure(self) -> str:
        return f"make room below {self.path}, and training goes on by itself"

    def wait(self, problem: Callable[[], str | None], control: Control, gives_up: Callable[[], bool]) -> str | None:
        """Stand still until there is no problem any more, telling why; the problem left when it was given up."""
        begin = now()
        found = problem()
        if found is None:
            return None
        next_try = _next_try(begin)
        self.events.append(TroubleEvent(action="pause", reason=found))
        self.events.append(PhaseEvent(phase="waiting", detail=found))
        while found is not None and not gives_up():
            time.sleep(RETRY_S)
            control.poll()
            if now() >= next_try and not gives_up():
                tried_at = now()
                found = problem()
                next_try = _next_try(tried_at)
        if found is None:
            self.events.append(LogEvent(level="info", message=f"there is room again, after {now() - begin:.0f} s"))
        return found


def _next_try(tried_at: float) -> float:
    """When to try again, right after a try that began then."""
    return now() + min(REST_PER_TRY * (now() - tried_at), MAX_REST_S)

"""What is left of a run's earlier attempt: a keeper on its way out, a trainer that is saving after its keeper died."""

import fcntl
import logging
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from server.runs.keeping import processes
from xoron_core.contract.run_directory import RunDirectory

log = logging.getLogger(__name__)

KILL_S = 5.0
"""What the kernel needs at most to end a process that was killed, unless a device holds it."""


def has_keeper(run: RunDirectory) -> bool:
    """Whether some keeper holds the run's directory."""
    return _is_locked(run.path, os.O_DIRECTORY)


def has_trainer(run: RunDirectory) -> bool:
    """Whether a run that no keeper holds has a trainer nevertheless."""
    keeper = run.own_keeper()
    if keeper is not None and keeper.trainer is not None and keeper.trainer.is_alive():
        return True
    return _is_locked(run.path / "events.lock")  # a rank whose launcher went before it


def has_leftovers(run: RunDirectory) -> bool:
    """Whether anything is left that was started for a run that no keeper holds; it looks at every process there is."""
    return has_trainer(run) or bool(processes.marked(run.path))


def has_processes(run: RunDirectory) -> bool:
    """Whether the run's keeper or trainer is still there."""
    keeper = run.own_keeper()
    return (keeper is not None and keeper.keeper.is_alive()) or has_trainer(run)


class Leaving:
    """Runs with processes that nobody keeps: they have a grace to save, and are killed after it."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._until_s: dict[str, float] = {}
        self._killed: dict[str, set[int]] = {}
        self._gone: dict[str, int] = {}

    def holds(self, run: RunDirectory, attempt: int, grace_s: float) -> bool:
        """Whether something of the run's attempts up to `attempt` is still there."""
        if has_keeper(run):
            self._until_s[run.id] = self._now_s() + grace_s
            return True
        if self._gone.get(run.id) == attempt or not has_leftovers(run):
            self._gone[run.id] = attempt
            self._until_s.pop(run.id, None)
            self._killed.pop(run.id, None)
            return False
        if self._now_s() >= self._until_s.setdefault(run.id, self._now_s() + grace_s):
            self._kill(run)
        return True

    def _kill(self, run: RunDirectory) -> None:
        known = self._killed.setdefault(run.id, set())
        left = processes.marked(run.path) - known
        if left:
            log.warning("processes %s of run %s do not end; sent SIGKILL", sorted(left), run.id)
            processes.send(left, signal.SIGKILL)
            known |= left

    def is_urgent(self) -> bool:
        """Whether one of them may end at any moment; nobody will tell."""
        return any(self._now_s() < until_s + KILL_S for until_s in self._until_s.values())

    def forget_others(self, known: Collection[str]) -> None:
        """What is remembered of runs that are neither waiting nor interrupted."""
        self._until_s = {run_id: until_s for run_id, until_s in self._until_s.items() if run_id in known}
        self._killed = {run_id: pids for run_id, pids in self._killed.items() if run_id in known}
        self._gone = {run_id: attempt for run_id, attempt in self._gone.items() if run_id in known}


def _is_locked(path: Path, flags: int = 0) -> bool:
    """Whether another process holds the lock; whoever wants it in this very moment tries again."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)

"""What is left of a run's earlier attempt: a keeper on its way out, a trainer that is saving after its keeper died."""

import fcntl
import os
from pathlib import Path

from xoron_core.contract.run_directory import RunDirectory


def has_keeper(run: RunDirectory) -> bool:
    """Whether some keeper holds the run's directory."""
    return _is_locked(run.path, os.O_DIRECTORY)


def has_trainer(run: RunDirectory) -> bool:
    """Whether a run that no keeper holds has a trainer nevertheless."""
    keeper = run.own_keeper()
    if keeper is not None and keeper.trainer is not None and keeper.trainer.is_alive():
        return True
    return _is_locked(run.path / "events.lock")  # a rank whose launcher went before it


def has_processes(run: RunDirectory) -> bool:
    """Whether the run's keeper or trainer is still there."""
    keeper = run.own_keeper()
    return (keeper is not None and keeper.keeper.is_alive()) or has_trainer(run)


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

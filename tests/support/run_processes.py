"""The processes of a run, as the kernel has them."""

import os
import signal
import time
from pathlib import Path

from support.runs import wait_for
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import KeeperRecord, RunDirectory

GONE_S = 20.0


def marked(run: RunDirectory) -> list[int]:
    """Living processes that were started for this directory: the trainer, its ranks, whatever those started."""
    mark = f"XORON_RUN_DIRECTORY={run.path}".encode()
    return [pid for pid in _pids() if mark in _variables(pid) and ProcessIdentity.of(pid) is not None]


def all_of(run: RunDirectory) -> list[int]:
    """The keeper, too."""
    keeper = run.keeper()
    is_mine = keeper is not None and keeper.inode in {None, run.path.stat().st_ino}
    own = [keeper.keeper.pid] if keeper is not None and is_mine and keeper.keeper.is_alive() else []
    return [*own, *marked(run)]


def ranks(run: RunDirectory) -> dict[int, int]:
    """Rank → pid of the processes that torchrun started."""
    found = {}
    for pid in marked(run):
        rank = next((value for value in _variables(pid) if value.startswith(b"RANK=")), None)
        if rank is not None:
            found[int(rank.removeprefix(b"RANK="))] = pid
    return found


def wait_gone(run: RunDirectory) -> None:
    """Wait until nothing of the run is left.

    Raises: TimeoutError naming what is.
    """
    try:
        wait_for(lambda: not all_of(run), GONE_S)
    except TimeoutError as error:
        raise TimeoutError(f"processes {all_of(run)} of run {run.id} are still there") from error


def keeper_of(run: RunDirectory, attempt: int = 1, timeout_s: float = 60.0) -> KeeperRecord:
    """The run's `keeper.json`, once it tells of that attempt's trainer."""

    def look() -> KeeperRecord | None:
        keeper = run.keeper()
        return keeper if keeper is not None and keeper.attempt >= attempt and keeper.trainer is not None else None

    return wait_for(look, timeout_s)


def kill_trainer(run: RunDirectory, number: signal.Signals = signal.SIGKILL) -> int:
    """Send the trainer a signal; its pid."""
    trainer = keeper_of(run).trainer
    assert trainer is not None
    os.kill(trainer.pid, number)
    return trainer.pid


def kill_keeper(run: RunDirectory) -> int:
    """SIGKILL the keeper, and wait until it is gone; its pid."""
    keeper = keeper_of(run).keeper
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for(lambda: not keeper.is_alive(), GONE_S)
    return keeper.pid


def end_all(run: RunDirectory) -> None:
    """SIGKILL everything of the run; for the end of a test, whatever came of it."""
    deadline = time.monotonic() + GONE_S
    while (left := all_of(run)) and time.monotonic() < deadline:
        for pid in left:
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _variables(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended while we looked, or is another user's
        return []

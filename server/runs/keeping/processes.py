"""Starting the trainer so that it cannot outlive its keeper unasked, and finding all that it started."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

RUN_ID_VARIABLE = "XORON_RUN_ID"
RUN_DIRECTORY_VARIABLE = "XORON_RUN_DIRECTORY"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl() -> Callable[[int, int], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option: int, value: int) -> None:
        if libc.prctl(option, value, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")

    return prctl


def become_subreaper() -> None:
    """Make orphaned descendants children of this process instead of init's, so that none is lost from sight."""
    _prctl()(_PR_SET_CHILD_SUBREAPER, 1)


def start_trainer(command: Sequence[str], environment: Mapping[str, str], output_fd: int) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its output going to `output_fd`, with SIGTERM sent to it at our death.

    To be called from the main thread: the kernel watches the thread that forks, not the process.
    """
    prctl, keeper = _prctl(), os.getpid()

    def between_fork_and_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:  # it died before the line above: no signal will ever come
            os._exit(128 + signal.SIGTERM)

    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=output_fd,
        stderr=output_fd,
        env=dict(environment),
        start_new_session=True,  # a terminal's Ctrl-C is the keeper's to translate
        preexec_fn=between_fork_and_exec,  # noqa: PLW1509 -- the keeper has one thread
    )


def trainer_environment(base: Mapping[str, str], run: Path, threads: int | None) -> dict[str, str]:
    """The trainer's environment: the keeper's, the run's mark, and the number of CPU threads (it changes sums)."""
    count = threads or len(os.sched_getaffinity(0))
    return {
        **base,
        RUN_ID_VARIABLE: run.name,
        RUN_DIRECTORY_VARIABLE: str(run),
        "OMP_NUM_THREADS": str(count),
        "PYTHONUNBUFFERED": "1",
    }


def descendants(root: int) -> set[int]:
    """The living processes below `root`; zombies do not count."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for pid in _pids():
        if (entry := _parent_and_state(pid)) is not None:
            parent, state = entry
            children.setdefault(parent, []).append(pid)
            if state in "ZX":
                dead.add(pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        new = [pid for pid in children.get(waiting.pop(), []) if pid not in found]
        found.update(new)
        waiting.extend(new)
    return found - dead


def marked(run: Path) -> set[int]:
    """The living processes that were started for `run` by any keeper, this process and its ancestors left out."""
    mark = f"{RUN_DIRECTORY_VARIABLE}={run}".encode()
    mine = _ancestors(os.getpid())
    found = set()
    for pid in _pids():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if mark in variables and pid not in mine:
            found.add(pid)
    return found


def send(pids: set[int], number: signal.Signals) -> None:
    """Signal every process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def reap_orphans(spare: int | None) -> None:
    """Take the exit status of dead children, except of `spare`, whose status somebody waits for."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or dead.si_pid == spare:
            return
        os.waitpid(dead.si_pid, os.WNOHANG)


def wait_until_gone(find: Callable[[], set[int]], timeout_s: float) -> set[int]:
    """Wait until `find` finds nothing; returned is what is still there after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        reap_orphans(None)
        left = find()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 -- no Path per process


def _parent_and_state(pid: int) -> tuple[int, str] | None:
    """Fields 4 and 3 of /proc/PID/stat (proc(5)); the command name before them may hold blanks and parentheses."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return int(parent), state


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 0:
        found.add(pid)
        entry = _parent_and_state(pid)
        pid = entry[0] if entry else 0
    return found

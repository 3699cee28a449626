"""Starting the trainer so that it cannot outlive its keeper unasked, and finding all that it started."""

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from xoron_core.contract.config.run import RunConfig

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


def start_trainer(
    command: Sequence[str], environment: Mapping[str, str], output_fd: int, inherited_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its output going to `output_fd`, with SIGTERM sent to it at our death.

    `inherited_fds` stay open in it: what is leased by them stays leased as long as it lives. A launcher does not hand
    them on to its ranks, but those do not outlive it.

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
        pass_fds=tuple(inherited_fds),
        start_new_session=True,  # a terminal's Ctrl-C is the keeper's to translate
        preexec_fn=between_fork_and_exec,  # noqa: PLW1509 -- the keeper has one thread
    )


def trainer_environment(base: Mapping[str, str], run: Path, config: RunConfig, gpus: Sequence[str]) -> dict[str, str]:
    """The trainer's environment: the keeper's, the run's mark, the GPUs it may see, and the number of each process's
    CPU threads (it changes sums)."""
    resources, trouble = config.resources, config.trouble
    threads = resources.threads or max(1, len(os.sched_getaffinity(0)) // resources.num_processes)
    return {
        **base,
        RUN_ID_VARIABLE: run.name,
        RUN_DIRECTORY_VARIABLE: str(run),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
        # how long a launcher that was sent SIGTERM, because its keeper died, lets the ranks write their checkpoint
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(math.ceil(trouble.stop_grace_s + trouble.term_grace_s)),
    }


def launcher_command(num_processes: int, scratch: str) -> list[str]:
    """What is put in front of the trainer's command where several processes train together. Each of them is started
    once: what follows a failure is the keeper's to say. `scratch` takes the launcher's own files."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launcher += ["--nproc-per-node", str(num_processes), "--max-restarts", "0", "--log-dir", scratch]
    return [*launcher, "--no-python"]


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


def children(parent: int) -> set[int]:
    """The living processes that `parent` started itself."""
    found = set()
    for pid in _pids():
        if (entry := _parent_and_state(pid)) is not None and entry[0] == parent and entry[1] not in "ZX":
            found.add(pid)
    return found


def stopped(pids: Iterable[int]) -> set[int]:
    """Those of these processes that are held by SIGSTOP or a debugger."""
    return {pid for pid in pids if (entry := _parent_and_state(pid)) is not None and entry[1] in "Tt"}


def catching(pids: Iterable[int], number: signal.Signals) -> set[int]:
    """Those of these processes that have a handler for a signal (`SigCgt` in /proc/PID/status, proc(5))."""
    found = set()
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:  # gone, or another user's, of whom /proc may tell nothing (proc(5), hidepid)
            continue
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        if int(caught, 16) >> (number - 1) & 1:
            found.add(pid)
    return found


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
    """Signal every process that is still there and that may be signalled."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; become another user's (setuid)
            os.kill(pid, number)


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
    except OSError:  # gone, or another user's, of whom /proc may tell nothing (proc(5), hidepid)
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

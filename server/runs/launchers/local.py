"""Starting a keeper on this machine, in a session of its own, so that it outlives whoever starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from server.gpus.leases import Lease, fds
from xoron_core.contract.run_directory import RunDirectory


def launch(
    run: RunDirectory, attempt: int, *, trainer: Sequence[str] | None = None, leases: Sequence[Lease] = ()
) -> subprocess.Popen[bytes]:
    """Start the keeper of one attempt, whose file must stand already, and return at once.

    No signal to the caller's process group or terminal reaches it. What the interpreter itself says (a keeper that
    cannot even be imported) goes to `train.log`. `trainer` replaces the trainer's command; run directory and attempt
    are appended to it. The keeper and what it starts see the GPUs of `leases` and no others. It holds them, and so does
    the process that it starts, the trainer or the launcher of several; the caller releases its own copies. It also
    keeps the returned process and polls it now and then, or it stays a zombie.
    """
    command = [sys.executable, "-m", "server.runs.keeper", str(run.path.absolute()), str(attempt)]
    if trainer is not None:
        command += ["--trainer-command", json.dumps(list(trainer))]
    if leases:
        command += ["--gpus", ",".join(lease.uuid for lease in leases)]
        command += ["--lease-fds", ",".join(str(fd) for fd in fds(leases))]
    log = os.open(run.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=fds(leases)
        )
    finally:
        os.close(log)

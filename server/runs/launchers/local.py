"""Starting a keeper on this machine, in a session of its own, so that it outlives whoever starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from xoron_core.contract.run_directory import RunDirectory


def launch(run: RunDirectory, attempt: int, *, trainer: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
    """Start the keeper of one attempt, whose file must stand already, and return at once.

    No signal to the caller's process group or terminal reaches it. What the interpreter itself says (a keeper that
    cannot even be imported) goes to `train.log`. `trainer` replaces the trainer's command; run directory and attempt
    are appended to it. The caller keeps the returned process and polls it now and then, or it stays a zombie.
    """
    command = [sys.executable, "-m", "server.runs.keeper", str(run.path.absolute()), str(attempt)]
    if trainer is not None:
        command += ["--trainer-command", json.dumps(list(trainer))]
    log = os.open(run.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    finally:
        os.close(log)

"""A keeper on a machine that tests do not have: `odd_keeper.py ODDITY BEHAVIOUR RUN_DIR ATTEMPT`."""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Timer

from server.runs.keeper import Keeper
from server.runs.keeping import processes, supervision
from server.runs.keeping.devices import Devices
from server.runs.keeping.journal import Journal
from server.runs.keeping.output import LogFile, secret_pattern
from server.runs.keeping.supervision import Wakeup
from server.runs.keeping.trial import Trial
from support.runs import small_trainer
from xoron_core.contract.run_directory import RunDirectory


class LostGpu(Devices):
    """A GPU that falls off the bus after some looks at it."""

    def __init__(self, num_looks: int) -> None:
        super().__init__([])
        self.num_looks = num_looks

    def lost(self) -> str | None:
        self.num_looks -= 1
        return None if self.num_looks >= 0 else "GPU GPU-a: Xid 79: GPU has fallen off the bus"


class FullGpu(Devices):
    """A GPU whose memory stays taken."""

    def __init__(self) -> None:
        self.num_looks = 0
        super().__init__([])

    def _used(self) -> dict[str, int]:
        self.num_looks += 1
        return {"GPU-a": 5 * 2**30 if self.num_looks > 1 else 0}

    def wait_until_free(self, timeout_s: float = 0.3) -> str | None:
        return super().wait_until_free(timeout_s)


def hold_against_sigkill(for_s: float, told_after_s: float) -> None:
    """Have SIGKILL take some time, as the kernel does with a process that waits for a dead disk."""
    send = processes.send

    def slowly(pids: Iterable[int], number: signal.Signals) -> None:
        if number is not signal.SIGKILL:
            return send(set(pids), number)
        return Timer(for_s, send, (set(pids), number)).start()

    processes.send = slowly
    supervision._KILL_S = told_after_s


def main(oddity: str, behaviour: str, run_dir: str, attempt: str) -> None:
    devices = Devices([])
    if oddity.startswith("gpu-lost-after-"):
        devices = LostGpu(int(oddity.rpartition("-")[2]))
    elif oddity == "memory-held":
        devices = FullGpu()
    else:
        assert oddity == "slow-sigkill"
        hold_against_sigkill(for_s=1.0, told_after_s=0.2)
    run = RunDirectory(Path(run_dir))
    log = LogFile(run.log_file, secret_pattern(os.environ))
    processes.become_subreaper()
    trial = Trial(run, small_trainer(behaviour), log, Wakeup(), Journal(run, log, []), devices)
    Keeper(trial, int(attempt)).keep()


if __name__ == "__main__":
    main(*sys.argv[1:])

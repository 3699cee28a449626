"""A trainer without torch that behaves as its first argument says: `small_trainer.py BEHAVIOUR RUN_DIR ATTEMPT`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from xoron_core.contract.commands import ENDING, Command, CommandKind
from xoron_core.contract.events import CommandEvent, MetricsEvent, StateEvent
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter

_ENDS = {
    CommandKind.STOP: (RunState.STOPPING, ExitCode.STOPPED),
    CommandKind.PAUSE: (RunState.PAUSING, ExitCode.PAUSED),
    CommandKind.CANCEL: (RunState.STOPPING, ExitCode.CANCELLED),
}


def begin(run: RunDirectory, attempt: int) -> EventWriter:
    writer = EventWriter(run.path, attempt)
    writer.append(StateEvent(state=RunState.RUNNING))
    writer.append(MetricsEvent(step=1, tokens=8, samples=1, values={"text/loss": 4.0}))
    return writer


def complete(run: RunDirectory, attempt: int) -> int:
    begin(run, attempt).close()
    sys.stdout.write("the last step is done\n")
    return ExitCode.COMPLETED


def obey(run: RunDirectory, attempt: int) -> int:
    """Steps until a command or SIGTERM ends it, as a good trainer does."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    with begin(run, attempt) as writer:
        while not told:
            for command in run.commands.after(0):
                if command.kind in ENDING and command.attempt == attempt:
                    return _end(writer, command)
            time.sleep(0.01)
        writer.append(StateEvent(state=RunState.STOPPING, reason="SIGTERM"))
    return ExitCode.STOPPED


def _end(writer: EventWriter, command: Command) -> int:
    state, code = _ENDS[command.kind]
    writer.append(CommandEvent(id=command.id, command=command.kind, status="accepted"))
    writer.append(StateEvent(state=state, reason=f"{command.kind} was asked"))
    return code


def crash(run: RunDirectory, attempt: int) -> int:
    begin(run, attempt).close()
    raise RuntimeError("the loss went to the moon")


def crash_early(run: RunDirectory, attempt: int) -> int:
    raise SystemExit("no module named torch; install xoron[train]")


def deaf(run: RunDirectory, attempt: int) -> int:
    """Neither commands nor SIGTERM reach it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with begin(run, attempt):
        _say_pid(run, "deaf")
        time.sleep(600)
    return 0


def deaf_to_commands(run: RunDirectory, attempt: int) -> int:
    """Dies of SIGTERM as a process does that has no handler yet."""
    time.sleep(600)
    return 0


def silent(run: RunDirectory, attempt: int) -> int:
    return 7


def tear(run: RunDirectory, attempt: int) -> int:
    """Killed in the middle of a record."""
    begin(run, attempt).close()
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"seq":4,"time":"2026-01-')
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def family(run: RunDirectory, attempt: int) -> int:
    """Leaves a grandchild in a session of its own that ignores SIGTERM and holds the output open."""
    begin(run, attempt).close()
    code = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "path = pathlib.Path(sys.argv[1]); part = path.with_suffix('.part'); part.write_text(str(os.getpid()));"
        "part.rename(path); time.sleep(600)"
    )
    pid_file = run.path / "grandchild.pid"
    child = f"[sys.executable, '-c', {code!r}, {str(pid_file)!r}]"
    middle = f"import subprocess, sys; subprocess.Popen({child}, start_new_session=True)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", middle], check=True)
    while not pid_file.exists():
        time.sleep(0.01)
    return 0


def leak(run: RunDirectory, attempt: int) -> int:
    """Prints its secrets, in one piece and in two."""
    secret = os.environ["MY_API_TOKEN"]
    sys.stdout.write(f"token is {secret}\nhub says hf_abcdefghijklmnopqrstuvwx\n")
    sys.stdout.write(f"threads {os.environ['OMP_NUM_THREADS']} run {os.environ['XORON_RUN_ID']}\n")
    sys.stdout.write("half " + secret[:5])
    sys.stdout.flush()
    time.sleep(0.2)
    sys.stdout.write(secret[5:] + "\n")
    return 1


def _say_pid(run: RunDirectory, name: str) -> None:
    path = run.path / f"{name}.pid"
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)


BEHAVIOURS: dict[str, Callable[[RunDirectory, int], int]] = {
    behaviour.__name__: behaviour
    for behaviour in (
        complete,
        obey,
        crash,
        crash_early,
        deaf,
        deaf_to_commands,
        silent,
        tear,
        family,
        leak,
    )
}

if __name__ == "__main__":
    sys.exit(BEHAVIOURS[sys.argv[1]](RunDirectory(Path(sys.argv[2])), int(sys.argv[3])))

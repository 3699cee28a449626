"""A trainer without torch that behaves as its first argument says: `small_trainer.py BEHAVIOUR RUN_DIR ATTEMPT`."""

import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xoron_core.contract import clock
from xoron_core.contract.beat import BeatWriter
from xoron_core.contract.commands import ENDING, Command, CommandKind
from xoron_core.contract.events import CommandEvent, MetricsEvent, StateEvent
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RankEnd, RunDirectory
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter
from xoron_core.distributed.launch import end_with_parent

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
    first = run.line(attempt)[0].attempt
    with begin(run, attempt) as writer:
        while not told:
            for command in run.commands.after(0):
                if command.kind in ENDING and command.is_for(attempt, first):
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


def deaf_and_loud(run: RunDirectory, attempt: int) -> int:
    """It and its children print empty lines all the time, too: to look for one with words takes the keeper a while."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with begin(run, attempt):
        for _ in range(2):
            os.fork()
        while True:
            os.write(1, b"\n" * 100_000)


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


def crash_twice(run: RunDirectory, attempt: int) -> int:
    """Later each time, then to the end."""
    return complete(run, attempt) if attempt > 2 else _fail_at(run, attempt, 4 + attempt)


def crash_again(run: RunDirectory, attempt: int) -> int:
    """At the same step each time."""
    return _fail_at(run, attempt, 5)


def crash_once(run: RunDirectory, attempt: int) -> int:
    """Then it obeys."""
    return obey(run, attempt) if attempt > 1 else _fail_at(run, attempt, 5)


def fail_while_stopping(run: RunDirectory, attempt: int) -> int:
    with begin(run, attempt) as writer:
        while not (commands := list(run.commands.after(0))):
            time.sleep(0.01)
        _end(writer, commands[0])
    return _last_words(run, attempt, 1, "RuntimeError: the disk went to the moon", 5)


def out_of_memory(run: RunDirectory, attempt: int) -> int:
    """Until the micro-batch is half of what it was."""
    if attempt > 1:
        return complete(run, attempt)
    begin(run, attempt).close()
    sys.stderr.write("a hint of the library's\n")
    return _last_words(run, attempt, ExitCode.OUT_OF_MEMORY, "OutOfMemoryError: tried to allocate 2 GiB", 3)


def roll_back(run: RunDirectory, attempt: int) -> int:
    """Two lots of samples are no good; a checkpoint of step 5 is, one of step 9 comes too late."""
    begin(run, attempt).close()
    for step in (5, 9):
        checkpoint(run, step)
    if attempt > 2:
        return ExitCode.COMPLETED
    bad = {"bad_since_step": 8, "bad_samples": ["a[1]", f"a[{attempt + 1}]"]}
    return _last_words(run, attempt, ExitCode.ROLLBACK, "3 steps in a row were not finite", 9 + attempt, **bad)


def damaged(run: RunDirectory, attempt: int) -> int:
    """Takes no checkpoint but that of step 5."""
    begin(run, attempt).close()
    if run.attempt(attempt).checkpoint == "checkpoints/step-00000005":
        return ExitCode.COMPLETED
    return _last_words(run, attempt, ExitCode.DAMAGED_CHECKPOINT, "CheckpointError: model.safetensors differs", 9)


def leak_in_words(run: RunDirectory, attempt: int) -> int:
    return _last_words(run, attempt, ExitCode.REFUSED, f"ValueError: {os.environ['MY_API_TOKEN']} was refused", 0)


def hang(run: RunDirectory, attempt: int) -> int:
    """Gives a sign or two, then sleeps where a stack shows it."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if attempt > 1:
        return complete(run, attempt)
    with begin(run, attempt):
        beat = BeatWriter(run.beat_file)
        for _ in range(20):
            beat.beat(6)
            time.sleep(0.05)
        _say_pid(run, "hang")
        sleep_for_a_hundred_years()
    return 0


def sleep_for_a_hundred_years() -> None:
    time.sleep(600)


def beating(run: RunDirectory, attempt: int) -> int:
    """Sends no metrics, but signs of life, for longer than `hang_after_s` of a test."""
    with begin(run, attempt):
        beat = BeatWriter(run.beat_file)
        for _ in range(100):
            beat.beat(1)
            time.sleep(0.05)
    return 0


def ranks(run: RunDirectory, attempt: int) -> int:
    """One of two: in the first attempt rank 1 is killed and rank 0 deaf; in the second they end at SIGTERM."""
    rank = int(os.environ["RANK"])
    if rank == 0:
        begin(run, attempt).close()
    if attempt == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        BeatWriter(run.beat_file).beat(4)
        if rank == 0:
            _say_pid(run, "deaf-rank")
        else:
            while not (run.path / "deaf-rank.pid").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    _say_pid(run, f"rank-{rank}")
    while not told:
        time.sleep(0.01)
    time.sleep(0.3)  # as long as a checkpoint
    _last_words(run, attempt, ExitCode.STOPPED, None, 7, rank=rank)
    return 0


def good_ranks(run: RunDirectory, attempt: int) -> int:
    """One of several as it should be: it saves and ends at SIGTERM, and does not outlive its launcher."""
    end_with_parent()
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    rank = int(os.environ["RANK"])
    if rank == 0:
        begin(run, attempt).close()
        BeatWriter(run.beat_file).beat(3 + attempt)
    _say_pid(run, f"rank-{rank}-of-{attempt}")
    while not told:
        time.sleep(0.01)
    if rank == 0:
        with EventWriter(run.path, attempt) as writer:
            writer.append(StateEvent(state=RunState.STOPPING, reason="SIGTERM"))
    time.sleep(0.3)  # as long as a checkpoint
    _last_words(run, attempt, ExitCode.STOPPED, None, 7, rank=rank)
    return 0


def checkpoint(run: RunDirectory, step: int) -> None:
    """What counts as a complete one."""
    folder = run.checkpoint_dir(step)
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("{}")


def _fail_at(run: RunDirectory, attempt: int, step: int) -> int:
    begin(run, attempt).close()
    return _last_words(run, attempt, 1, f"RuntimeError: the loss went to the moon at step {step}", step)


def _last_words(
    run: RunDirectory, attempt: int, code: int, reason: str | None, step: int, rank: int = 0, **bad: Any
) -> int:
    end = RankEnd(attempt=attempt, rank=rank, code=code, reason=reason, step=step, time=clock.now(), **bad)
    run.write_rank_end(end)
    return code


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
        deaf_and_loud,
        deaf_to_commands,
        silent,
        tear,
        family,
        leak,
        crash_twice,
        crash_again,
        crash_once,
        fail_while_stopping,
        out_of_memory,
        roll_back,
        damaged,
        hang,
        leak_in_words,
        beating,
        ranks,
        good_ranks,
    )
}

if __name__ == "__main__":
    sys.exit(BEHAVIOURS[sys.argv[1]](RunDirectory(Path(sys.argv[2])), int(sys.argv[3])))

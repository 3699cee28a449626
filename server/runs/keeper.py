"""The keeper: a small process that starts one attempt's trainer, waits for it and writes down how it ended.

`python -m server.runs.keeper RUN_DIR ATTEMPT`. It has no torch and outlives the server. While the trainer lives, the
trainer writes the run's events; before and after, the keeper does. Its own troubles go to `train.log`.
"""

import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from server.runs.keeping import processes
from server.runs.keeping.ending import Ending, Pressure, TrainerExit, decide, last_state
from server.runs.keeping.escalation import Escalation
from server.runs.keeping.output import LogFile, secret_pattern
from server.runs.keeping.supervision import Supervision, Wakeup
from xoron_core.contract import clock
from xoron_core.contract.derive import LastState
from xoron_core.contract.errors import EventsLockedError, RunDirectoryError, XoronError
from xoron_core.contract.events import Event, PhaseEvent, StateEvent
from xoron_core.contract.files import to_json, write_atomic
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptExit, KeeperRecord, RunDirectory, attempt_config
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter

_TRAINER_MODULE = "xoron_core.training"
_PREDECESSOR_S = 15.0
_DISK_RETRY_S = 1.0
_CRASHED, _REFUSED = 1, 2

T = TypeVar("T")


class Keeper:
    """One attempt, from `starting` to its end state."""

    def __init__(self, run: RunDirectory, attempt: int, command: Sequence[str], log: LogFile) -> None:
        self.run = run
        self.attempt = attempt
        self.command = [*command, str(run.path), str(attempt)]
        self.log = log
        self.wakeup = Wakeup()
        self.started_at = clock.now()

    def keep(self) -> RunState:
        """Run the attempt to its end; returned is the end state.

        Raises: RunDirectoryError when another keeper has the run, or this attempt has ended already.
        """
        lock = self._lock_run()
        try:
            self._check_not_ended()
            self._clear_leftovers()
            self._write_keeper(None)
            self._write_events([StateEvent(state=RunState.STARTING)])
            return self._start_and_wait()
        finally:
            os.close(lock)

    def _lock_run(self) -> int:
        """Hold the run's directory, once a predecessor that is on its way out has let go of it."""
        fd = os.open(self.run.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _retry(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), BlockingIOError, _PREDECESSOR_S)
        except BlockingIOError as error:
            os.close(fd)
            raise RunDirectoryError(f"{self.run.path} has a keeper already: {self.run.keeper()}") from error
        return fd

    def _check_not_ended(self) -> None:
        for end in self.run.exits().attempts:
            if end.attempt == self.attempt:
                raise RunDirectoryError(f"attempt {self.attempt} has ended already ({end.state}); resume makes another")

    def _clear_leftovers(self) -> None:
        """End what a keeper that was killed has left behind; its trainer got SIGTERM then and may be saving."""
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            left = processes.marked(self.run.path)
            if not left:
                return
            self.log.say(f"processes of an earlier attempt are still there: {sorted(left)}")
            if number is not None:
                processes.send(left, number)
            processes.wait_until_gone(lambda: processes.marked(self.run.path), _PREDECESSOR_S)

    def _start_and_wait(self) -> RunState:
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        try:
            config = attempt_config(self.run.attempt(self.attempt))
            environment = processes.trainer_environment(os.environ, self.run.path, config.resources.threads)
            trainer = processes.start_trainer(self.command, environment, write_end)
        except (XoronError, OSError) as error:
            self.log.say(f"cannot start the trainer: {error}")
            return self._finish(TrainerExit(1, None, f"cannot start the trainer: {error}"), Pressure(), [])
        finally:
            os.close(write_end)
        self._write_keeper(ProcessIdentity.of(trainer.pid))
        graces = config.trouble.stop_grace_s, config.trouble.term_grace_s
        escalation = Escalation(self.run.commands, self.attempt, *graces, warn=self.log.say)
        supervision = Supervision(trainer, read_end, self.log, self.wakeup, escalation)
        end = supervision.wait()
        os.close(read_end)
        return self._finish(end, supervision.pressure(), supervision.troubles)

    def _finish(self, end: TrainerExit, pressure: Pressure, troubles: Sequence[Event]) -> RunState:
        last = last_state(self.run.path)
        if last is None or last.attempt != self.attempt:
            last = LastState(RunState.STARTING, self.attempt, self.started_at)
        ending = decide(end, last, pressure)
        states = [StateEvent(state=state, reason=ending.reason or None) for state in ending.path]
        self._write_events([*troubles, *states, PhaseEvent(phase="exited")])
        self._write_exit(end, ending)
        return ending.state

    def _write_keeper(self, trainer: ProcessIdentity | None) -> None:
        keeper = ProcessIdentity.of_self()
        record = KeeperRecord(attempt=self.attempt, keeper=keeper, trainer=trainer, started_at=self.started_at)
        self._persist(lambda: write_atomic(self.run.keeper_file, to_json(record)))

    def _write_events(self, events: Sequence[Event]) -> None:
        writer = _retry(lambda: EventWriter(self.run.path, self.attempt), EventsLockedError, _PREDECESSOR_S)
        with writer:
            for event in events:
                writer.append(event)
            while not writer.flush():  # a full disk: the run's end is not forgotten, it waits for room
                time.sleep(_DISK_RETRY_S)
            writer.sync()

    def _write_exit(self, end: TrainerExit, ending: Ending) -> None:
        record = self.run.exits()
        last_exit = AttemptExit(
            attempt=self.attempt,
            exit_code=end.code,
            signal=end.signal,
            state=ending.state,
            reason=ending.reason,
            ended_at=clock.now(),
        )
        record.attempts.append(last_exit)
        self._persist(lambda: write_atomic(self.run.exit_file, to_json(record)))

    def _persist(self, write: Callable[[], None]) -> None:
        while True:
            try:
                return write()
            except OSError as error:
                self.log.say(f"cannot write ({error}); trying again")
                time.sleep(_DISK_RETRY_S)


def _retry(action: Callable[[], T], error: type[Exception], timeout_s: float) -> T:
    """`action`'s value, tried again while it raises `error`, for `timeout_s` at most."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return action()
        except error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main(arguments: Sequence[str]) -> int:
    """Keep the attempt named on the command line; 0 when it was kept to its end, whatever end that was."""
    path, attempt, *rest = arguments  # argparse would cost a megabyte for two words
    command = [sys.executable, "-m", _TRAINER_MODULE]
    if rest[:1] == ["--trainer-command"]:
        command = json.loads(rest[1])
    run = RunDirectory(Path(path).absolute())
    log = LogFile(run.log_file, secret_pattern(os.environ))
    try:
        processes.become_subreaper()
        Keeper(run, int(attempt), command, log).keep()
    except RunDirectoryError as error:
        log.say(f"refused: {error}")
        return _REFUSED
    except Exception:  # noqa: BLE001 -- boundary: whatever goes wrong here is found in train.log
        log.say(f"this keeper has crashed; its trainer is sent SIGTERM\n{traceback.format_exc()}")
        return _CRASHED
    finally:
        log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

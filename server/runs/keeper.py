"""The keeper: a small process that sees a run through a whole line of attempts and writes down how each ended.

`python -m server.runs.keeper RUN_DIR ATTEMPT`. It has no torch and outlives the server. While a trainer lives, the
trainer writes the run's events; before, between and after, the keeper does. Its own troubles go to `train.log`.
"""

import fcntl
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from server.runs.attempts import INTERRUPTED
from server.runs.keeping import line, processes
from server.runs.keeping.aftermath import Following, GivenUp, Nothing, what_follows
from server.runs.keeping.backing_off import BackOff
from server.runs.keeping.devices import Devices
from server.runs.keeping.ending import Verdict, decide, last_state, shortest_path
from server.runs.keeping.journal import PREDECESSOR_S, Journal, retry
from server.runs.keeping.output import LogFile, secret_pattern
from server.runs.keeping.supervision import Wakeup
from server.runs.keeping.trial import Result, Trial
from xoron_core.contract import clock
from xoron_core.contract.derive import LastState
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.events import Event, PhaseEvent, StateEvent, TroubleEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.run_directory import AttemptExit, RunDirectory
from xoron_core.contract.states import RunState

_TRAINER_MODULE = "xoron_core.training"
_CRASHED, _REFUSED = 1, 2


class Keeper:
    """A run from `starting` to the end state of the last attempt of the line that begins with `attempt`."""

    def __init__(self, trial: Trial, attempt: int) -> None:
        self.trial = trial
        self.run = trial.run
        self.attempt = attempt
        self.log = trial.log
        self.journal = trial.journal

    def keep(self) -> RunState:
        """See the run to its end; returned is the end state.

        Raises: RunDirectoryError when another keeper has the run, or nobody wants this attempt any more.
        """
        lock = self._lock_run()
        try:
            self._check_wanted()
            self._clear_leftovers()
            self._tell_interruption()
            attempt = self.attempt
            while True:
                self._begin(attempt)
                state, following = self._end(self.trial.of(attempt))
                if following is None:
                    return state
                attempt = following
        finally:
            os.close(lock)

    def _lock_run(self) -> int:
        """Hold the run's directory, once a predecessor that is on its way out has let go of it."""
        fd = os.open(self.run.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            retry(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), BlockingIOError, PREDECESSOR_S)
        except BlockingIOError as error:
            os.close(fd)
            raise RunDirectoryError(f"{self.run.path} has a keeper already: {self.run.keeper()}") from error
        return fd

    def _check_wanted(self) -> None:
        """Whoever started this keeper may have lost patience with it and asked for the next attempt."""
        asked = self.run.record().attempt
        if asked > self.attempt:
            raise RunDirectoryError(f"attempt {self.attempt} comes too late; attempt {asked} was asked for since")
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
            processes.wait_until_gone(lambda: processes.marked(self.run.path), PREDECESSOR_S)

    def _tell_interruption(self) -> None:
        """Write the end of the attempt before this one, where its keeper could not."""
        before = line.record_before(self.run, self.attempt)
        if before is None or any(end.attempt == before.attempt for end in self.run.exits().attempts):
            return
        self.journal.exit(
            AttemptExit(
                attempt=before.attempt,
                state=RunState.INTERRUPTED,
                reason=INTERRUPTED,
                ended_at=clock.now(),
                failure=Failure.INTERRUPTED,
                step=line.last_step(self.run, before),
            )
        )

    def _begin(self, attempt: int) -> None:
        self.journal.keeper(attempt)
        events: list[Event] = [StateEvent(state=RunState.STARTING)]
        if (reason := line.interruption(self.run, attempt)) is not None:
            events.insert(0, TroubleEvent(action="restart", failure=Failure.INTERRUPTED, reason=reason))
        self.journal.events(attempt, events)

    def _end(self, result: Result) -> tuple[RunState, int | None]:
        """Tell how an attempt ended; the state that it leaves the run in, and the attempt that follows."""
        last = self._last_state(result.attempt)
        after = what_follows(self.run, result, last.state)
        ending = decide(_wanted(result.verdict, after), last)
        on_the_way = [StateEvent(state=state) for state in ending.path[:-1]]
        self.journal.events(
            result.attempt, [*result.troubles, *after.troubles(), *on_the_way, PhaseEvent(phase="exited")]
        )
        held = self.trial.devices.wait_until_free()
        is_free = PhaseEvent(phase="memory_free") if held is None else TroubleEvent(action="none", reason=held)
        events: list[Event] = [is_free]
        if ending.path:
            events.append(StateEvent(state=ending.state, reason=ending.reason or None))
        back_off = BackOff.of(after) if isinstance(after, Following) else None
        if back_off is not None:
            events.append(back_off.phase())
        self.journal.events(result.attempt, events)
        is_followed = isinstance(after, Following)
        self._write_exit(result, ending.state, result.verdict.reason if is_followed else ending.reason)
        if back_off is None or not isinstance(after, Following):
            return ending.state, None
        return self._back_off(result, back_off, after)

    def _back_off(self, result: Result, back_off: BackOff, after: Following) -> tuple[RunState, int | None]:
        """Wait, unless somebody asks for an end; then begin the next attempt's file."""
        asked = back_off.wait(self.run, result.attempt, self.trial.wakeup, self.log)
        if asked is None:
            self.journal.attempt(after.record.model_copy(update={"created_at": clock.now()}))
            return RunState.RECOVERING, after.record.attempt
        path = shortest_path(RunState.RECOVERING, asked.state)
        assert path is not None, "the table leads from recovering to every end that can be asked for"
        states = [StateEvent(state=state, reason=asked.reason) for state in path]
        gone = [PhaseEvent(phase="exited"), PhaseEvent(phase="memory_free")]
        self.journal.events(result.attempt, [*asked.answers, *states[:-1], *gone, states[-1]])
        self._write_exit(result, asked.state, asked.reason)
        return asked.state, None

    def _last_state(self, attempt: int) -> LastState:
        last = last_state(self.run.path)
        if last is None or last.attempt != attempt:
            return LastState(RunState.STARTING, attempt, clock.now())
        return last

    def _write_exit(self, result: Result, state: RunState, reason: str) -> None:
        self.journal.exit(
            AttemptExit(
                attempt=result.attempt,
                exit_code=result.exit.code,
                signal=result.exit.signal,
                state=state,
                reason=reason,
                ended_at=clock.now(),
                failure=result.verdict.failure,
                step=result.step,
            )
        )


def _wanted(verdict: Verdict, after: Following | GivenUp | Nothing) -> Verdict:
    """What the run comes to: an attempt that failed and is followed by another leaves it `recovering`."""
    if isinstance(after, Following):
        return Verdict(RunState.RECOVERING, after.record.reason, verdict.failure)
    return verdict


def main(arguments: Sequence[str]) -> int:
    """Keep the attempt named on the command line and those that follow it; 0 when the run came to an end, whatever end
    that was."""
    path, attempt, *rest = arguments  # argparse would cost a megabyte for a few words
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    command = [sys.executable, "-m", _TRAINER_MODULE]
    if "--trainer-command" in options:
        command = json.loads(options["--trainer-command"])
    gpus = _words(options.get("--gpus"))
    leases = [int(fd) for fd in _words(options.get("--lease-fds"))]
    run = RunDirectory(Path(path).absolute())
    log = LogFile(run.log_file, secret_pattern(os.environ))
    devices = Devices(gpus)
    try:
        processes.become_subreaper()
        wakeup = Wakeup()
        trial = Trial(run, command, log, wakeup, Journal(run, log, gpus), devices, leases)
        Keeper(trial, int(attempt)).keep()
    except RunDirectoryError as error:
        log.say(f"refused: {error}")
        return _REFUSED
    except Exception:  # noqa: BLE001 -- boundary: whatever goes wrong here is found in train.log
        log.say(f"this keeper has crashed; its trainer is sent SIGTERM\n{traceback.format_exc()}")
        return _CRASHED
    finally:
        devices.close()
        log.close()
    return 0


def _words(text: str | None) -> list[str]:
    return text.split(",") if text else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

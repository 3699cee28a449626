"""Keepers and trainers without processes: what they would write is written, and the test decides when."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from server.gpus.leases import Lease
from server.runs.children import Process
from server.runs.keeping.processes import RUN_DIRECTORY_VARIABLE
from xoron_core.contract import clock
from xoron_core.contract.commands import ENDING, Command, CommandKind
from xoron_core.contract.events import Event, MetricsEvent, PhaseEvent, StateEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.files import to_json, write_atomic
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptExit, KeeperRecord, RunDirectory
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter

_S = RunState
_ENDS = {CommandKind.STOP: _S.STOPPED, CommandKind.PAUSE: _S.PAUSED, CommandKind.CANCEL: _S.CANCELLED}
NOBODY = ProcessIdentity(pid=2**22 + 1, boot_id="none", start_ticks=1)


class PaperKeeper:
    """The keeper and trainer of one line of attempts; `poll` is what a started process has."""

    def __init__(self, run: RunDirectory, attempt: int) -> None:
        self.run = run
        self.attempt = attempt
        self.first = attempt
        self.returncode: int | None = None
        self.is_saving = False
        self.state = _S.STARTING
        self.step = 0
        self._write(ProcessIdentity.of_self(), None)
        self.say(StateEvent(state=_S.STARTING))

    def poll(self) -> int | None:
        return self.returncode

    @property
    def is_alive(self) -> bool:
        return self.returncode is None

    def say(self, *events: Event) -> None:
        with EventWriter(self.run.path, self.attempt) as writer:
            for event in events:
                writer.append(event)
                if isinstance(event, StateEvent):
                    self.state = event.state

    def asked(self) -> Command | None:
        """The newest request to end that holds for this attempt."""
        requests = [one for one in self.run.commands.after(0) if one.kind in ENDING]
        return next((one for one in reversed(requests) if one.is_for(self.attempt, self.first)), None)

    def runs(self) -> None:
        self.say(StateEvent(state=_S.RUNNING), PhaseEvent(phase="training"))

    def steps(self) -> None:
        self.step += 1
        self.say(MetricsEvent(step=self.step, tokens=self.step, samples=self.step, values={"text/loss": 1.0}))

    def saves(self) -> None:
        folder = self.run.checkpoint_dir(self.step)
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps({"step": self.step}))

    def answers(self) -> None:
        """The trainer has seen what was asked."""
        command = self.asked()
        assert command is not None
        state = _S.PAUSING if command.kind is CommandKind.PAUSE else _S.STOPPING
        if self.state is not state:
            self.say(PhaseEvent(phase="requested"), StateEvent(state=state))

    def ends(self, state: RunState, failure: Failure | None = None) -> None:
        """The last event, the exit, and then no process any more."""
        self.say(StateEvent(state=state, reason="so it was written"))
        self._write_exit(state, failure)
        self.goes(0)

    def obeys(self) -> None:
        """The whole way out of an attempt that was asked to end."""
        command = self.asked()
        assert command is not None
        self.answers()
        self.ends(_ENDS[command.kind])

    def recovers(self) -> None:
        """A failure that the keeper answers with the next attempt."""
        self.say(StateEvent(state=_S.RECOVERING, reason="it broke"), PhaseEvent(phase="backing_off"))

    def begins_the_next(self) -> None:
        self._write_exit(_S.RECOVERING, Failure.CRASH)
        before = self.run.attempt(self.attempt)
        self.attempt += 1
        self.run.write_attempt(before.model_copy(update={"attempt": self.attempt, "cause": Failure.CRASH}))
        self._write(ProcessIdentity.of_self(), None)
        self.say(StateEvent(state=_S.STARTING))

    def dies(self, *, is_saving: bool, trainer: ProcessIdentity | None = None) -> None:
        """SIGKILL; the trainer may need a while to save."""
        self._write(NOBODY, trainer or (ProcessIdentity.of_self() if is_saving else None))
        self.is_saving = is_saving
        self.goes(-9)

    def has_saved(self) -> None:
        self.is_saving = False
        self._write(NOBODY, None)

    def goes(self, status: int) -> None:
        if status == 0:
            self._write(NOBODY, None)
        self.returncode = status

    def _write(self, keeper: ProcessIdentity, trainer: ProcessIdentity | None) -> None:
        record = KeeperRecord(
            attempt=self.attempt,
            keeper=keeper,
            trainer=trainer,
            started_at=clock.now(),
            inode=self.run.path.stat().st_ino,
        )
        write_atomic(self.run.keeper_file, to_json(record))

    def _write_exit(self, state: RunState, failure: Failure | None) -> None:
        exits = self.run.exits()
        end = AttemptExit(attempt=self.attempt, state=state, reason="", ended_at=clock.now(), failure=failure)
        exits.attempts.append(end.model_copy(update={"step": self.step}))
        write_atomic(self.run.exit_file, to_json(exits))


@contextmanager
def deaf_process(run: RunDirectory, leases: Sequence[Lease] = ()) -> Iterator[ProcessIdentity]:
    """A real process that was started for a run, holds its leases and does not heed SIGTERM."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={RUN_DIRECTORY_VARIABLE: str(run.path)},
        pass_fds=[lease.fd for lease in leases],
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        try:
            yield identity
        finally:
            process.kill()


class Stillborn:
    """A keeper that refused to begin."""

    returncode = 2

    def poll(self) -> int | None:
        return self.returncode


class PaperLaunch:
    """Launches paper keepers; `fails` makes the next so many launches fail."""

    def __init__(self) -> None:
        self.keepers: dict[str, PaperKeeper] = {}
        self.fails = 0
        self.is_stillborn = False
        """Whether keepers end before they write anything."""
        self.before: Callable[[RunDirectory], None] = lambda _: None
        """Called with the run that is about to be launched."""
        self.inherit: Callable[[RunDirectory, Sequence[Lease]], None] = lambda *_: None
        """Called with a launched run and what its keeper is given."""

    def __call__(self, run: RunDirectory, attempt: int, *, leases: Sequence[Lease] = ()) -> Process:
        self.before(run)
        if self.fails:
            self.fails -= 1
            raise OSError(os.strerror(11))
        if self.is_stillborn:
            return Stillborn()
        self.inherit(run, leases)
        keeper = PaperKeeper(run, attempt)
        self.keepers[run.id] = keeper
        return keeper

    def alive(self) -> list[PaperKeeper]:
        return [keeper for keeper in self.keepers.values() if keeper.is_alive]

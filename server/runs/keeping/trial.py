"""One attempt: its trainer started, waited for and judged."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from server.runs.keeping import processes
from server.runs.keeping.devices import Devices
from server.runs.keeping.ending import Pressure, TrainerExit, Verdict, judge
from server.runs.keeping.escalation import Escalation
from server.runs.keeping.hang import HangWatch
from server.runs.keeping.journal import Journal
from server.runs.keeping.line import last_step, start_step
from server.runs.keeping.output import LogFile
from server.runs.keeping.peers import PeerWatch
from server.runs.keeping.requests import Requests
from server.runs.keeping.supervision import Started, Supervision, Wakeup, Watches
from xoron_core.contract.beat import reset_beat
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import RunDirectoryError, XoronError
from xoron_core.contract.events import TroubleEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptRecord, RankEnd, RunDirectory, attempt_config
from xoron_core.contract.states import RunState


@dataclass(frozen=True)
class Result:
    """What one attempt came to; `record` and `config` are None where its file is no good."""

    attempt: int
    verdict: Verdict
    exit: TrainerExit
    record: AttemptRecord | None = None
    config: RunConfig | None = None
    pressure: Pressure = field(default_factory=Pressure)
    troubles: Sequence[TroubleEvent] = ()
    step: int = 0


@dataclass(frozen=True)
class Trial:
    """What every attempt of a keeper has in common; `leases` are open files that its processes hold, too."""

    run: RunDirectory
    command: Sequence[str]
    log: LogFile
    wakeup: Wakeup
    journal: Journal
    devices: Devices
    leases: Sequence[int] = ()

    def of(self, attempt: int) -> Result:
        """Run an attempt until no process of it is left."""
        try:
            record = self.run.attempt(attempt)
            config = attempt_config(record)
            first = self.run.line(attempt)[0].attempt
        except XoronError as error:
            return self._not_started(attempt, Failure.REFUSED, error)
        if (lost := self.devices.lost()) is not None:
            return self._not_started(attempt, Failure.GPU_LOST, lost)
        reset_beat(self.run.beat_file)
        self.log.last_line = ""
        with ExitStack() as files:
            try:
                started = self._start(attempt, config, files)
            except OSError as error:
                return self._not_started(attempt, Failure.CRASH, error, record, config)
            return self._watch(started, record, config, first)

    def _watch(self, started: Started, record: AttemptRecord, config: RunConfig, first: int) -> Result:
        """Wait for a trainer that was started."""
        attempt = record.attempt
        self.journal.trainer(attempt, ProcessIdentity.of(started.process.pid))
        requests = Requests(self.run.commands, attempt, first, warn=self.log.say)
        watches = Watches(
            Escalation(requests, config.trouble.stop_grace_s, config.trouble.term_grace_s),
            HangWatch(self.run.beat_file, config.trouble.hang_after_s),
            PeerWatch(self.run, attempt, started.num_processes),
        )
        supervision = Supervision(started, self.log, self.wakeup, watches, spared=self.devices.pids)
        status = supervision.wait()
        os.close(started.output_fd)
        requests.look()
        return self._judged(record, config, status, supervision)

    def _start(self, attempt: int, config: RunConfig, files: ExitStack) -> Started:
        num_processes = config.resources.num_processes
        environment = processes.trainer_environment(os.environ, self.run.path, config, self.devices.uuids)
        command = [*self.command, str(self.run.path), str(attempt)]
        if num_processes > 1:
            scratch = files.enter_context(TemporaryDirectory(prefix="xoron-ranks-", ignore_cleanup_errors=True))
            command = [*processes.launcher_command(num_processes, scratch), *command]
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        try:
            process = processes.start_trainer(command, environment, write_end, self.leases)
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return Started(process, read_end, num_processes)

    def _judged(self, record: AttemptRecord, config: RunConfig, status: int, supervision: Supervision) -> Result:
        ends = self._last_words(record.attempt)
        pressure = supervision.pressure()
        end = TrainerExit.of(status, self.log.last_line, ends, config.resources.num_processes)
        verdict = judge(end, pressure)
        if verdict.failure is not None and (lost := self.devices.lost()) is not None:
            verdict = Verdict(RunState.FAILED, f"{lost}; {verdict.reason}", Failure.GPU_LOST)
        step = last_step(self.run, record, ends)
        return Result(record.attempt, verdict, end, record, config, pressure, supervision.troubles, step)

    def _last_words(self, attempt: int) -> list[RankEnd]:
        try:
            ends = self.run.rank_ends(attempt)
        except RunDirectoryError as error:
            self.log.say(f"the last words of a rank cannot be read: {error}")
            return []
        return [end.model_copy(update={"reason": end.reason and self.log.clean(end.reason)}) for end in ends]

    def _not_started(
        self,
        attempt: int,
        failure: Failure,
        error: Exception | str,
        record: AttemptRecord | None = None,
        config: RunConfig | None = None,
    ) -> Result:
        reason = f"cannot start the trainer: {error}"
        self.log.say(reason)
        verdict = Verdict(RunState.FAILED, reason, failure)
        step = 0 if record is None else start_step(record)
        return Result(attempt, verdict, TrainerExit(None, None, reason), record, config, step=step)

"""The keeper as a real process, with real trainers that have no torch."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.runs import begin_attempt, events, make_run, small_trainer, states, wait_for

from server.runs.launchers.local import launch
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import AttemptExit, RunDirectory


class Kept:
    """A run whose keeper a test started."""

    def __init__(self, runs: Path, behaviour: str, **trouble: float) -> None:
        self.run = make_run(runs, {"trouble": trouble})
        self.keeper = launch(self.run, begin_attempt(self.run), trainer=small_trainer(behaviour))

    def until_running(self) -> None:
        wait_for(lambda: "running" in states(self.run))

    def trainer(self) -> ProcessIdentity:
        """The trainer's identity, once the keeper has written it down."""
        identity = wait_for(lambda: (record := self.run.keeper()) and record.trainer)
        assert isinstance(identity, ProcessIdentity)
        return identity

    def end(self) -> AttemptExit:
        """How it ended, once the keeper is gone."""
        assert self.keeper.wait(timeout=30) == 0, self.log()
        return self.run.exits().attempts[-1]

    def log(self) -> str:
        return self.run.log_file.read_text(encoding="utf-8")


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Any]:
    kept: list[Kept] = []

    def start(behaviour: str, **trouble: float) -> Kept:
        kept.append(Kept(tmp_path, behaviour, **trouble))
        return kept[-1]

    yield start
    for one in kept:
        if one.keeper.poll() is None:
            record = one.run.keeper()
            trainer = None if record is None else record.trainer
            one.keeper.kill()
            if trainer is not None and trainer.is_alive():
                os.kill(trainer.pid, signal.SIGKILL)
            one.keeper.wait(timeout=10)


def test_a_trainer_that_finishes_completes_the_run(keep: Any) -> None:
    kept = keep("complete")
    end = kept.end()
    assert (end.state, end.exit_code, end.signal) == ("completed", 0, None)
    assert states(kept.run) == ["starting", "running", "completed"]
    assert [record.get("phase") for record in events(kept.run)[-3:]] == ["exited", "memory_free", None]
    assert [record["seq"] for record in events(kept.run)] == [1, 2, 3, 4, 5, 6]
    assert "the last step is done" in kept.log()
    assert not kept.trainer().is_alive()


@pytest.mark.parametrize(
    ("kind", "between", "after"),
    [
        (CommandKind.STOP, "stopping", "stopped"),
        (CommandKind.PAUSE, "pausing", "paused"),
        (CommandKind.CANCEL, "stopping", "cancelled"),
    ],
)
def test_a_command_that_is_obeyed_ends_in_its_state(keep: Any, kind: CommandKind, between: str, after: str) -> None:
    kept = keep("obey")
    kept.until_running()
    kept.run.commands.post(kind, attempt=1)
    end = kept.end()
    assert (end.state, end.reason) == (after, f"{kind} was asked")
    assert states(kept.run) == ["starting", "running", between, after]


def test_a_crash_fails_with_the_last_line_of_output(keep: Any) -> None:
    kept = keep("crash")
    end = kept.end()
    assert (end.state, end.exit_code) == ("failed", 1)
    assert end.reason == "RuntimeError: the loss went to the moon"
    assert [record.get("reason") for record in events(kept.run) if record["kind"] == "state"][-1] == end.reason
    assert "Traceback" in kept.log()


def test_a_trainer_that_dies_before_it_runs_fails_from_starting(keep: Any) -> None:
    kept = keep("crash_early")
    assert kept.end().reason == "no module named torch; install xoron[train]"
    assert states(kept.run) == ["starting", "failed"]


def test_a_silent_end_names_the_status(keep: Any) -> None:
    assert keep("silent").end().reason == "the trainer exited with status 7 and said nothing"


def test_a_killed_trainer_fails_with_the_signal(keep: Any) -> None:
    kept = keep("obey")
    kept.until_running()
    os.kill(kept.trainer().pid, signal.SIGKILL)
    end = kept.end()
    assert (end.state, end.exit_code, end.signal) == ("failed", None, signal.SIGKILL)
    assert "SIGKILL" in end.reason
    assert "memory" in end.reason


def test_a_deaf_trainer_is_terminated_then_killed(keep: Any) -> None:
    kept = keep("deaf", stop_grace_s=0.3, term_grace_s=0.3)
    kept.until_running()
    kept.run.commands.post(CommandKind.STOP, attempt=1)
    end = kept.end()
    assert (end.state, end.signal) == ("stopped", signal.SIGKILL)
    assert "no end 0.3 s after SIGTERM" in end.reason
    assert states(kept.run) == ["starting", "running", "stopping", "stopped"]
    assert [record["action"] for record in events(kept.run) if record["kind"] == "trouble"] == ["terminate", "kill"]
    assert not kept.trainer().is_alive()


def test_a_deaf_trainer_that_prints_faster_than_the_log_is_written_is_killed_in_time(keep: Any) -> None:
    kept = keep("deaf_and_loud", stop_grace_s=0.3, term_grace_s=0.3)
    kept.until_running()
    kept.run.commands.post(CommandKind.STOP, attempt=1)
    kept.keeper.wait(timeout=10)
    assert (kept.end().state, kept.end().signal) == ("stopped", signal.SIGKILL)


def test_a_trainer_still_importing_is_terminated_after_a_pause_command(keep: Any) -> None:
    kept = keep("deaf_to_commands", stop_grace_s=0.2, term_grace_s=20)
    kept.trainer()
    kept.run.commands.post(CommandKind.PAUSE, attempt=1)
    end = kept.end()
    assert (end.state, end.signal) == ("paused", signal.SIGTERM)
    assert states(kept.run) == ["starting", "pausing", "paused"]


def test_commands_for_another_attempt_and_files_that_are_none_do_not_escalate(keep: Any) -> None:
    kept = keep("obey", stop_grace_s=0.2, term_grace_s=0.2)
    kept.until_running()
    kept.run.commands.post(CommandKind.STOP, attempt=2)
    kept.run.commands.post(CommandKind.CHECKPOINT, attempt=1)
    with pytest.raises(subprocess.TimeoutExpired):
        kept.keeper.wait(timeout=1)
    kept.run.commands.post(CommandKind.STOP, attempt=1)
    assert kept.end().state == "stopped"


def test_a_file_that_is_no_command_is_named_once_and_passed(keep: Any) -> None:
    kept = keep("deaf", stop_grace_s=0.2, term_grace_s=0.2)
    kept.until_running()
    (kept.run.commands.directory / "00000003.json").write_text('{"kind": "dance"}', encoding="utf-8")
    kept.run.commands.post(CommandKind.CANCEL, attempt=1)
    assert kept.end().state == "cancelled"
    assert 1 <= kept.log().count("00000003.json is not a command") <= 3


def test_grandchildren_are_killed_before_the_end_is_told(keep: Any) -> None:
    kept = keep("family")
    assert kept.end().state == "completed"
    grandchild = int((kept.run.path / "grandchild.pid").read_text())
    assert ProcessIdentity.of(grandchild) is None
    assert str(grandchild) in kept.log()


def test_sigterm_to_the_keeper_is_passed_on(keep: Any) -> None:
    kept = keep("obey")
    kept.until_running()
    kept.keeper.terminate()
    end = kept.end()
    assert (end.state, end.exit_code) == ("stopped", 10)
    assert "keeper was sent SIGTERM" in end.reason
    assert states(kept.run) == ["starting", "running", "stopping", "stopped"]


def test_the_keepers_death_terminates_the_trainer(keep: Any) -> None:
    kept = keep("obey")
    kept.until_running()
    trainer = kept.trainer()
    kept.keeper.kill()
    assert kept.keeper.wait(timeout=10) == -signal.SIGKILL
    wait_for(lambda: not trainer.is_alive())
    assert states(kept.run) == ["starting", "running", "stopping"]  # the trainer checkpointed; nobody wrote an end


@pytest.mark.slow
def test_a_new_keeper_ends_what_a_killed_one_left(keep: Any) -> None:
    kept = keep("deaf")
    kept.until_running()
    trainer = kept.trainer()
    kept.keeper.kill()
    kept.keeper.wait(timeout=10)
    second = launch(kept.run, begin_attempt(kept.run, 2), trainer=small_trainer("complete"))
    wait_for(lambda: "still there" in kept.log())
    assert trainer.is_alive(), "it has its time to save"
    assert second.wait(timeout=60) == 0, kept.log()
    assert not trainer.is_alive()
    assert kept.log().count(f"processes of an earlier attempt are still there: [{trainer.pid}]") == 3
    assert states(kept.run) == ["starting", "running", "starting", "running", "completed"]
    assert [record["attempt"] for record in events(kept.run) if record["kind"] == "state"] == [1, 1, 2, 2, 2]


def test_a_torn_record_is_cut_and_the_numbers_go_on(keep: Any) -> None:
    kept = keep("tear")
    assert kept.end().signal == signal.SIGKILL
    assert [record["seq"] for record in events(kept.run)] == list(range(1, len(events(kept.run)) + 1))
    assert any("torn record" in record.get("message", "") for record in events(kept.run))
    assert states(kept.run)[-1] == "failed"


def test_secrets_stay_out_of_the_log(tmp_path: Path, keep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "s3cr3t-value")
    kept = keep("leak")
    end = kept.end()
    assert "s3cr3t" not in kept.log()
    assert "hf_abc" not in kept.log()
    assert kept.log().count("[redacted]") == 3
    assert end.reason == "half [redacted]"
    assert f"threads {len(os.sched_getaffinity(0))} run {kept.run.id}" in kept.log()


def test_the_keeper_outlives_its_starters_process_group(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    begin_attempt(run)
    code = (
        "import json, sys, time; from pathlib import Path; from server.runs.launchers.local import launch;"
        "from xoron_core.contract.run_directory import RunDirectory;"
        "launch(RunDirectory(Path(sys.argv[1])), 1, trainer=json.loads(sys.argv[2])); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(run.path), json.dumps(small_trainer("obey"))]
    starter = subprocess.Popen(command, start_new_session=True)
    wait_for(lambda: "running" in states(run))
    os.killpg(starter.pid, signal.SIGINT)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait(timeout=10)
    record = run.keeper()
    assert record is not None
    assert record.keeper.is_alive()
    run.commands.post(CommandKind.STOP, attempt=1)
    wait_for(lambda: run.exits().attempts)
    assert states(run)[-1] == "stopped"


def test_the_keeper_is_small(keep: Any) -> None:
    kept = keep("obey")
    kept.until_running()
    status = Path(f"/proc/{kept.keeper.pid}/status").read_text()
    resident_kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    assert resident_kib < 40 * 1024
    kept.run.commands.post(CommandKind.STOP, attempt=1)
    kept.end()


def test_a_second_keeper_is_refused(keep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep("complete")
    kept.end()
    again = launch(kept.run, 1, trainer=small_trainer("complete"))
    assert again.wait(timeout=30) == 2
    assert "attempt 1 has ended already (completed)" in kept.log()
    assert len(kept.run.exits().attempts) == 1


def test_a_keeper_that_comes_too_late_is_refused(keep: Any) -> None:
    kept = keep("obey")
    run = kept.run
    kept.until_running()
    run.commands.post(CommandKind.STOP, attempt=1)
    kept.end()
    begin_attempt(run, 2)
    run.write_record(run.record().model_copy(update={"attempt": 3}))
    late = launch(run, 2, trainer=small_trainer("complete"))
    assert late.wait(timeout=30) == 2
    assert "attempt 2 comes too late; attempt 3 was asked for since" in kept.log()
    assert [end.attempt for end in run.exits().attempts] == [1]


def test_an_attempt_without_a_file_fails_and_says_so(tmp_path: Path) -> None:
    run: RunDirectory = make_run(tmp_path)
    assert launch(run, 1, trainer=small_trainer("complete")).wait(timeout=30) == 0
    end = run.exits().attempts[0]
    assert end.state == "failed"
    assert "0001.yaml is missing" in end.reason


def test_an_unforeseen_error_is_found_in_the_log(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    begin_attempt(run)
    run.exit_file.mkdir()  # where a file should be
    assert launch(run, 1, trainer=small_trainer("complete")).wait(timeout=30) == 1
    assert "IsADirectoryError" in run.log_file.read_text(encoding="utf-8")

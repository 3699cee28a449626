"""A whole line of attempts under one keeper: real processes, trainers that have no torch."""

import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kept_lines import MakeLine, kept_lines
from support.runs import begin_attempt, events, small_trainer, states, wait_for
from support.small_trainer import checkpoint

from server.runs.attempts import begin_attempt as begin_asked
from server.runs.launchers.local import launch
from xoron_core.contract import clock
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.run_directory import AttemptRecord, attempt_config


@pytest.fixture
def line(tmp_path: Path) -> Iterator[MakeLine]:
    with kept_lines(tmp_path) as make:
        yield make


class TestRestart:
    def test_a_run_that_crashes_twice_goes_on_to_its_end(self, line: MakeLine) -> None:
        one = line("crash_twice").start()
        exits = one.exits()
        assert one.states() == [
            (1, "starting"),
            (1, "running"),
            (1, "recovering"),
            (2, "starting"),
            (2, "running"),
            (2, "recovering"),
            (3, "starting"),
            (3, "running"),
            (3, "completed"),
        ]
        assert [(end.attempt, end.state, end.failure, end.step) for end in exits] == [
            (1, "recovering", "crash", 5),
            (2, "recovering", "crash", 6),
            (3, "completed", None, 0),
        ]
        assert one.troubles() == [("restart", "crash"), ("restart", "crash")]
        assert [one.run.attempt(number).cause for number in (1, 2, 3)] == ["resumed", "crash", "crash"]
        keeper = one.run.keeper()
        assert (keeper.attempt, keeper.inode, keeper.gpus) == (3, one.run.path.stat().st_ino, [])

    def test_the_reason_is_told_at_once_wherever_it_is_looked_for(self, line: MakeLine) -> None:
        one = line("crash_twice").start()
        one.exits()
        records = events(one.run)
        error = "RuntimeError: the loss went to the moon at step 5"
        trouble = next(record for record in records if record["kind"] == "trouble")
        recovering = next(record for record in records if record.get("state") == "recovering")
        metrics = next(record for record in records if record["kind"] == "metrics")
        for record in (trouble, recovering):
            assert record["reason"].startswith(f"{error}; restart 1 of 3 from the last checkpoint")
            assert (clock.parse_time(record["time"]) - clock.parse_time(metrics["time"])).total_seconds() < 3
        assert one.run.attempt(2).reason == recovering["reason"]

    def test_phases_between_attempts(self, line: MakeLine) -> None:
        one = line("crash_twice").start()
        one.exits()
        first = [record for record in events(one.run) if record["attempt"] == 1]
        assert [record.get("phase") or record["kind"] for record in first[-5:]] == [
            "trouble",
            "exited",
            "memory_free",
            "state",
            "backing_off",
        ]
        assert "before attempt 2" in first[-1]["detail"]
        deadline, now = (clock.parse_time(first[-1][name]) for name in ("deadline", "time"))
        assert abs((deadline - now).total_seconds()) < 1

    def test_the_same_crash_at_the_same_step_is_not_tried_a_third_time(self, line: MakeLine) -> None:
        one = line("crash_again").start()
        assert [end.state for end in one.exits()] == ["recovering", "failed"]
        assert one.troubles() == [("restart", "crash"), ("none", "crash")]
        last = [record for record in events(one.run) if record["kind"] == "trouble"][-1]
        assert "nothing has changed since" in last["reason"]
        assert one.exits()[-1].reason == "RuntimeError: the loss went to the moon at step 5"

    def test_a_person_who_resumes_begins_to_count_anew(self, line: MakeLine) -> None:
        one = line("crash_again").start()
        one.exits()
        one.start(3)
        assert [end.state for end in one.exits()] == ["recovering", "failed", "recovering", "failed"]

    def test_a_count_of_zero_fails_at_once(self, line: MakeLine) -> None:
        one = line("crash_again", {"max_restarts": 0}).start()
        assert [end.state for end in one.exits()] == ["failed"]
        assert "trouble.max_restarts is 0" in next(r for r in events(one.run) if r["kind"] == "trouble")["reason"]

    def test_it_goes_on_from_the_newest_checkpoint(self, line: MakeLine) -> None:
        one = line("crash_once")
        for step in (2, 4):
            checkpoint(one.run, step)
        one.run.checkpoint_dir(5).mkdir()  # not complete
        one.start()
        wait_for(lambda: (2, "running") in one.states())
        one.run.commands.post(CommandKind.STOP, attempt=2)
        one.exits()
        assert one.run.attempt(2).checkpoint == "checkpoints/step-00000004"

    def test_a_trainer_that_cannot_be_started_again_has_crashed(self, line: MakeLine, tmp_path: Path) -> None:
        script = tmp_path / "trainer.sh"
        script.write_text(f'#!/bin/sh\nrm "$0"\nexec {shlex.join(small_trainer("crash_again"))} "$@"\n')
        script.chmod(0o755)
        one = line("crash_again")
        one.keeper = launch(one.run, begin_attempt(one.run), trainer=[str(script)])
        exits = one.exits()
        assert [(end.state, end.failure, end.step) for end in exits] == [
            ("recovering", "crash", 5),
            ("recovering", "crash", 0),
            ("failed", "crash", 0),
        ]
        assert exits[1].reason.startswith("cannot start the trainer: [Errno 2]")
        assert "restart 2 of 3" in one.run.attempt(3).reason

    def test_a_trainer_that_never_could_be_started_fails_at_once(self, line: MakeLine) -> None:
        one = line("complete")
        one.keeper = launch(one.run, begin_attempt(one.run), trainer=["/nowhere"])
        assert [(end.state, end.failure) for end in one.exits()] == [("failed", "crash")]
        assert "before its first step" in next(r for r in events(one.run) if r["kind"] == "trouble")["reason"]


class TestOtherFailures:
    def test_last_words_are_told_without_their_secrets(self, line: MakeLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_API_TOKEN", "s3cr3t-value")
        one = line("leak_in_words").start()
        assert one.exits()[0].reason == "ValueError: [redacted] was refused"
        assert "s3cr3t" not in (one.run.path / "events.jsonl").read_text()

    def test_out_of_memory_halves_the_micro_batch(self, line: MakeLine) -> None:
        one = line("out_of_memory", training={"gradient_accumulation_steps": 2}).start()
        assert [(end.state, end.failure, end.exit_code) for end in one.exits()] == [
            ("recovering", "out_of_memory", 31),
            ("completed", None, 0),
        ]
        before, after = (attempt_config(one.run.attempt(attempt)) for attempt in (1, 2))
        assert (before.modalities.text.batch_size, after.modalities.text.batch_size) == (4, 2)
        assert after.training.gradient_accumulation_steps == 4
        assert "OutOfMemoryError: tried to allocate 2 GiB" in one.run.attempt(2).reason
        begin_asked(one.run, one.run.record().model_copy(update={"attempt": 3}))
        assert attempt_config(one.run.attempt(3)).modalities.text.batch_size == 2, (
            "a person who resumes keeps what fits"
        )

    def test_a_rollback_leaves_samples_out_for_good(self, line: MakeLine) -> None:
        one = line("roll_back").start()
        assert [end.state for end in one.exits()] == ["recovering", "recovering", "completed"]
        assert one.troubles() == [("rollback", "non_finite")] * 2
        second, third = one.run.attempt(2), one.run.attempt(3)
        assert (second.checkpoint, second.skip) == ("checkpoints/step-00000005", ["a[1]", "a[2]"])
        assert (third.checkpoint, third.skip) == ("checkpoints/step-00000005", ["a[1]", "a[2]", "a[3]"])
        begin_asked(one.run, one.run.record().model_copy(update={"attempt": 4}))
        assert one.run.attempt(4).skip == third.skip

    def test_a_damaged_checkpoint_is_passed_over(self, line: MakeLine) -> None:
        one = line("damaged")
        for step in (5, 9):
            checkpoint(one.run, step)
        begin_asked(one.run, one.run.record().model_copy(update={"attempt": 1}))
        one.start()
        assert [end.failure for end in one.exits()] == ["damaged_checkpoint", None]
        assert one.run.attempt(1).checkpoint == "checkpoints/step-00000009"
        assert one.run.attempt(2).checkpoint == "checkpoints/step-00000005"

    def test_a_damaged_checkpoint_that_a_person_chose_is_not(self, line: MakeLine) -> None:
        one = line("damaged")
        for step in (5, 9):
            checkpoint(one.run, step)
        record = one.run.record().model_copy(update={"resume_from": "checkpoints/step-00000009"})
        one.run.write_record(record)
        begin_asked(one.run, record)
        one.start()
        [end] = one.exits()
        assert (end.state, end.reason) == ("failed", "CheckpointError: model.safetensors differs")
        assert "resume from another" in next(r for r in events(one.run) if r["kind"] == "trouble")["reason"]

    def test_an_interruption_is_told_and_written_down(self, line: MakeLine) -> None:
        one = line("complete")
        begin_attempt(one.run, 1)
        record = one.run.record().model_copy(update={"attempt": 2, "resumed_by": "server"})
        begin_asked(one.run, record)
        one.start(2)
        assert [(end.attempt, end.state, end.failure) for end in one.exits()] == [
            (1, "interrupted", "interrupted"),
            (2, "completed", None),
        ]
        first = events(one.run)[0]
        assert (first["kind"], first["action"], first["failure"]) == ("trouble", "restart", "interrupted")
        assert first["reason"] == one.run.attempt(2).reason


class TestHang:
    def test_no_sign_of_life_is_a_hang_whose_stacks_are_in_the_log(self, line: MakeLine) -> None:
        one = line("hang", {"hang_after_s": 4.0}).start()
        exits = one.exits()
        assert [(end.state, end.failure, end.step) for end in exits] == [
            ("recovering", "hang", 6),
            ("completed", None, 0),
        ]
        assert one.troubles() == [("kill", None), ("restart", "hang")]
        assert "in sleep_for_a_hundred_years" in one.log()
        assert exits[0].reason.startswith("no sign of life for 4 s, at step 6")

    @pytest.mark.slow
    def test_a_trainer_held_by_sigstop_is_named(self, line: MakeLine) -> None:
        one = line("hang", {"hang_after_s": 4.0}).start()
        wait_for(lambda: (one.run.path / "hang.pid").exists())
        trainer = one.trainer()
        os.kill(trainer.pid, signal.SIGSTOP)
        exits = one.exits()
        assert [end.state for end in exits] == ["recovering", "completed"]
        assert f"held by SIGSTOP or a debugger: process {trainer.pid}" in exits[0].reason

    def test_the_set_up_may_hang_too(self, line: MakeLine) -> None:
        one = line("deaf_to_commands", {"hang_after_s": 0.3, "max_hangs": 0}).start()
        [end] = one.exits()
        assert (end.state, end.failure, end.signal) == ("failed", "hang", signal.SIGKILL)
        assert states(one.run) == ["starting", "failed"]

    @pytest.mark.slow
    def test_signs_of_life_are_enough(self, line: MakeLine) -> None:
        assert [end.state for end in line("beating", {"hang_after_s": 4.0}).start().exits()] == ["completed"]


class TestEnds:
    @pytest.mark.parametrize(
        ("kind", "on_the_way", "end"),
        [
            (CommandKind.STOP, "stopping", "stopped"),
            (CommandKind.PAUSE, "pausing", "paused"),
            (CommandKind.CANCEL, "stopping", "cancelled"),
        ],
    )
    def test_a_request_during_the_back_off_is_obeyed_at_once(
        self, line: MakeLine, kind: CommandKind, on_the_way: str, end: str
    ) -> None:
        one = line("crash_again", {"restart_delay_s": 600.0}).start()
        one.until_phase("backing_off")
        one.run.commands.post(kind, attempt=1)
        assert [(x.state, x.failure) for x in one.exits()] == [(end, "crash")]
        assert states(one.run)[2:] == ["recovering", on_the_way, end]
        [answer] = [record for record in events(one.run) if record["kind"] == "command"]
        assert (answer["command"], answer["status"]) == (kind, "accepted")
        assert not one.run.attempt_file(2).exists()

    def test_sigterm_during_the_back_off_stops_the_run(self, line: MakeLine) -> None:
        one = line("crash_again", {"restart_delay_s": 600.0}).start()
        one.until_phase("backing_off")
        one.keeper.terminate()
        assert [end.state for end in one.exits()] == ["stopped"]
        assert states(one.run)[2:] == ["recovering", "stopping", "stopped"]

    def test_a_stop_for_an_attempt_that_is_over_ends_the_next(self, line: MakeLine) -> None:
        one = line("crash_once").start()
        wait_for(lambda: (2, "running") in one.states())
        one.run.commands.post(CommandKind.STOP, attempt=1)
        assert [end.state for end in one.exits()] == ["recovering", "stopped"]

    def test_a_deaf_attempt_is_killed_after_a_stop_for_the_one_before(self, line: MakeLine) -> None:
        one = line("hang", {"hang_after_s": 600.0, "stop_grace_s": 0.2, "term_grace_s": 0.2})
        for number, cause in ((1, "resumed"), (2, "crash")):
            config = one.run.config().to_dict()
            record = AttemptRecord.model_validate(
                {
                    "attempt": number,
                    "cause": cause,
                    "reason": "test",
                    "created_at": clock.now(),
                    "checkpoint": None,
                    "config": config,
                }
            )
            one.run.write_attempt(record)
        one.run.commands.post(CommandKind.PAUSE, attempt=1)
        one.run.commands.post(CommandKind.CANCEL, attempt=1)
        one.run.commands.post(CommandKind.STOP, attempt=1)
        one.behaviour = "deaf"
        one.start(2)
        assert one.exits()[-1].state == "cancelled"

    def test_what_fails_while_it_stops_is_not_started_again(self, line: MakeLine) -> None:
        one = line("fail_while_stopping").start()
        wait_for(lambda: "running" in states(one.run))
        one.run.commands.post(CommandKind.PAUSE, attempt=1)
        assert [(end.state, end.failure) for end in one.exits()] == [("failed", "crash")]
        assert states(one.run)[-2:] == ["pausing", "failed"]
        assert "was asked to end" in [r for r in events(one.run) if r["kind"] == "trouble"][-1]["reason"]

    def test_a_keeper_that_was_told_to_end_kills_a_deaf_trainer(self, line: MakeLine) -> None:
        one = line("deaf", {"stop_grace_s": 0.2, "term_grace_s": 0.2}).start()
        wait_for(lambda: (one.run.path / "deaf.pid").exists())
        one.keeper.terminate()
        [end] = one.exits()
        assert (end.state, end.signal) == ("stopped", signal.SIGKILL)


def test_the_run_directory_stays_small_of_keepers(line: MakeLine) -> None:
    """A keeper that has gone through several attempts is as small as at the beginning."""
    one = line("crash_once").start()
    wait_for(lambda: (2, "running") in one.states())
    status = Path(f"/proc/{one.keeper.pid}/status").read_text()
    resident_kib = int(next(row.split()[1] for row in status.splitlines() if row.startswith("VmRSS")))
    assert resident_kib < 40 * 1024
    one.run.commands.post(CommandKind.STOP, attempt=2)
    one.exits()

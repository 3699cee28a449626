"""What the keeper judges by: last words, signs of life, ranks that are left, requests, memory, the line so far."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.runs import begin_attempt, make_run, states
from support.small_trainer import checkpoint

from server.runs.keeping.devices import TOLERANCE_BYTES, still_held
from server.runs.keeping.ending import Pressure, TrainerExit, judge
from server.runs.keeping.escalation import Escalation
from server.runs.keeping.hang import HangWatch
from server.runs.keeping.journal import Journal
from server.runs.keeping.line import earlier_failures, failed, interrupted_line, next_attempt
from server.runs.keeping.output import LogFile, secret_pattern
from server.runs.keeping.peers import PeerWatch
from server.runs.keeping.recovery import Recovery
from server.runs.keeping.requests import Requests
from xoron_core.contract import clock
from xoron_core.contract.beat import BeatWriter
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.events import StateEvent
from xoron_core.contract.exit_codes import ExitCode, Failure
from xoron_core.contract.run_directory import AttemptExit, AttemptRecord, ExitRecord, RankEnd, RunDirectory
from xoron_core.contract.states import RunState


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return make_run(tmp_path)


def words(rank: int, code: int, reason: str | None = None, **more: Any) -> RankEnd:
    end = {"attempt": 1, "rank": rank, "code": code, "reason": reason, "step": 7, "time": clock.now()}
    return RankEnd.model_validate(end | more)


def write_attempt(run: RunDirectory, number: int, cause: str, checkpoint: str | None = None) -> AttemptRecord:
    record = {"attempt": number, "cause": cause, "reason": "test", "created_at": clock.now(), "checkpoint": checkpoint}
    written = AttemptRecord.model_validate({**record, "config": run.config().to_dict()})
    run.write_attempt(written)
    return written


class TestJudgingRanks:
    @pytest.mark.parametrize(
        ("ends", "state", "failure", "reason"),
        [
            ([(1, 0), (0, 0)], "completed", None, "all steps done"),
            ([(1, 10), (0, 10)], "stopped", None, ""),
            ([(0, 34, "peer"), (1, 31, "no memory")], "failed", "out_of_memory", "no memory"),
            ([(0, 1, "first"), (1, 31, "second")], "failed", "crash", "first"),
            ([(0, 34, "peer")], "failed", "crash", "rank 1 ended without a word"),
            ([(0, 10)], "failed", "crash", "rank 1 ended without a word"),
            ([], "failed", "crash", "ranks 0, 1 ended without a word"),
            ([(0, 34, "peer"), (1, 34, "peer, too")], "failed", "crash", "peer"),
        ],
    )
    def test_last_words_count_and_the_launchers_status_does_not(
        self, ends: list[tuple[Any, ...]], state: str, failure: str | None, reason: str
    ) -> None:
        for status in (0, 1):
            end = TrainerExit.of(status, "launcher's noise", [words(*one) for one in ends], num_processes=2)
            verdict = judge(end, Pressure())
            assert (verdict.state, verdict.failure, verdict.reason) == (state, failure, reason)

    @pytest.mark.parametrize("ends", [[], [(1, 12)]])
    def test_a_full_disk_that_takes_no_last_words_makes_no_failure_of_an_orderly_end(
        self, ends: list[tuple[Any, ...]]
    ) -> None:
        end = TrainerExit.of(0, "", [words(*one) for one in ends], num_processes=2)
        assert judge(end, Pressure(CommandKind.CANCEL)).state == "cancelled"
        killed = TrainerExit.of(-9, "", [words(*one) for one in ends], num_processes=2)
        assert judge(killed, Pressure(CommandKind.CANCEL)).failure is Failure.CRASH

    def test_ranks_without_a_word_that_were_sent_a_signal_ended_by_it(self) -> None:
        pressure = Pressure(CommandKind.PAUSE, frozenset({signal.SIGTERM}), "no end after 1 s")
        verdict = judge(TrainerExit.of(1, "", [words(0, 34, "peer")], num_processes=2), pressure)
        assert (verdict.state, verdict.reason) == ("paused", "no end after 1 s; the trainer was ended by SIGTERM")


class TestJudgingOneProcess:
    @pytest.mark.parametrize(
        ("code", "asked", "state"),
        [(10, "cancel", "cancelled"), (10, "pause", "stopped"), (10, None, "stopped"), (0, "cancel", "completed")],
    )
    def test_a_cancel_that_came_after_the_trainers_last_look_counts(
        self, code: int, asked: str | None, state: str
    ) -> None:
        pressure = Pressure(None if asked is None else CommandKind(asked))
        assert judge(TrainerExit.of(code, ""), pressure).state == state

    @pytest.mark.parametrize(
        ("code", "failure"),
        [(30, "non_finite"), (31, "out_of_memory"), (32, "damaged_checkpoint"), (33, "refused"), (34, "crash")],
    )
    def test_a_status_tells_the_failure_and_the_last_words_the_reason(self, code: int, failure: str) -> None:
        verdict = judge(TrainerExit.of(code, "noise at exit", [words(0, code, "the reason")]), Pressure())
        assert (verdict.failure, verdict.reason) == (failure, "the reason")

    def test_a_hang_goes_before_the_signal_that_ended_it(self) -> None:
        verdict = judge(TrainerExit.of(-9, ""), Pressure(sent=frozenset({9}), hang="no sign of life"))
        assert (verdict.failure, verdict.reason) == (Failure.HANG, "no sign of life")


class TestHangWatch:
    def test_silence_counts_from_the_last_sign(self, tmp_path: Path) -> None:
        beat = BeatWriter(tmp_path / "beat")
        watch = HangWatch(tmp_path / "beat", hang_after_s=2.0)
        assert not watch.is_hung(0.0)
        assert not watch.is_hung(0.9)
        assert not watch.is_hung(1.8)
        beat.beat(3)
        assert not watch.is_hung(2.7)
        assert not watch.is_hung(3.6)
        assert not watch.is_hung(4.5)
        assert watch.is_hung(5.4)
        assert watch.reason(set()) == "no sign of life for 2 s, at step 3"
        beat.close()

    def test_time_in_which_the_machine_slept_does_not_count(self, tmp_path: Path) -> None:
        watch = HangWatch(tmp_path / "beat", hang_after_s=100.0)
        assert not watch.is_hung(0.0)
        assert not watch.is_hung(8 * 3600.0)
        assert not watch.is_hung(8 * 3600.0 + 90.0)


class TestPeerWatch:
    def test_a_rank_that_failed_leaves_the_others_some_time(self, run: RunDirectory) -> None:
        watch = PeerWatch(run, 1, num_processes=2, grace_s=3.0)
        assert not watch.must_end(0.0, 0)  # not started yet
        assert not watch.must_end(1.0, 1)
        assert not watch.must_end(2.0, 2)
        assert not watch.must_end(3.0, 1)  # gone without a word
        assert not watch.must_end(5.9, 1)
        assert watch.must_end(6.0, 1)

    def test_ranks_that_end_in_order_may_take_their_time(self, run: RunDirectory) -> None:
        watch = PeerWatch(run, 1, num_processes=2, grace_s=3.0)
        assert not watch.must_end(0.0, 2)
        run.write_rank_end(words(1, ExitCode.STOPPED))
        assert not watch.must_end(1.0, 1)
        assert not watch.must_end(100.0, 1)
        run.write_rank_end(words(1, ExitCode.OUT_OF_MEMORY, "no memory"))
        assert not watch.must_end(101.0, 1)
        assert watch.must_end(104.0, 1)


class TestRequests:
    def test_a_stop_replaces_a_pause_and_a_cancel_both(self, run: RunDirectory) -> None:
        requests = Requests(run.commands, 1, 1, warn=pytest.fail)
        seen = []
        for kind in (CommandKind.PAUSE, CommandKind.STOP, CommandKind.PAUSE, CommandKind.CANCEL, CommandKind.STOP):
            run.commands.post(kind, attempt=1)
            seen.append(requests.look())
        assert seen == ["pause", "stop", "stop", "cancel", "cancel"]

    def test_those_of_the_line_count_and_no_others(self, run: RunDirectory) -> None:
        run.commands.post(CommandKind.STOP, attempt=1)
        run.commands.post(CommandKind.STOP, attempt=5)
        assert Requests(run.commands, 4, 2, warn=pytest.fail).look() is None
        run.commands.post(CommandKind.CHECKPOINT, attempt=2)
        assert Requests(run.commands, 4, 2, warn=pytest.fail).look() is None
        run.commands.post(CommandKind.PAUSE, attempt=2)
        assert Requests(run.commands, 4, 2, warn=pytest.fail).look() is CommandKind.PAUSE

    def test_a_stronger_request_does_not_move_the_deadline(self, run: RunDirectory) -> None:
        escalation = Escalation(Requests(run.commands, 1, 1, warn=pytest.fail), stop_grace_s=10, term_grace_s=5)
        run.commands.post(CommandKind.PAUSE, attempt=1)
        assert escalation.poll(100.0) is None
        run.commands.post(CommandKind.CANCEL, attempt=1)
        assert escalation.poll(109.0) is None
        step = escalation.poll(110.0)
        assert step is not None
        assert step.number is signal.SIGTERM
        assert "cancel was asked" in step.event.reason
        assert escalation.poll(114.9) is None
        step = escalation.poll(115.0)
        assert step is not None
        assert step.number is signal.SIGKILL
        assert escalation.poll(1000.0) is None


def test_memory_counts_as_held_beyond_what_was_there() -> None:
    gib = 2**30
    before = {"a": gib, "b": 0}
    assert still_held(before, {"a": gib + TOLERANCE_BYTES, "b": 0}) == {}
    assert still_held(before, {"a": 3 * gib, "b": 0}) == {"a": 2 * gib}
    assert still_held(before, {"a": 0}) == {}


class TestJournal:
    @pytest.fixture
    def journal(self, run: RunDirectory) -> Iterator[Journal]:
        log = LogFile(run.log_file, secret_pattern({}))
        yield Journal(run, log, [])
        log.close()

    def test_who_the_trainer_is_waits_for_no_disk(self, run: RunDirectory, journal: Journal) -> None:
        run.keeper_file.mkdir()  # where a file should be
        journal.trainer(1, None)
        assert "cannot write who the trainer is" in run.log_file.read_text()

    def test_events_that_cannot_be_made_durable_at_once_are_so_later(
        self, run: RunDirectory, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusals = [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOSPC, "No space left on device")]
        synced = []

        def fsync(fd: int) -> None:
            if refusals:
                raise refusals.pop()
            synced.append(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        journal.events(1, [StateEvent(state=RunState.STARTING)])
        assert len(synced) == 1
        assert states(run) == ["starting"]


class TestLine:
    def test_failures_are_read_back_from_the_files(self, run: RunDirectory) -> None:
        write_attempt(run, 1, "started")
        write_attempt(run, 2, "crash", "checkpoints/step-00000008")
        write_attempt(run, 3, "interrupted", "checkpoints/step-00000008")
        ends = [AttemptExit(attempt=1, state="recovering", reason="boom", ended_at="", failure=Failure.CRASH, step=9)]
        run.exit_file.write_text(ExitRecord(attempts=ends).model_dump_json())
        first, second = earlier_failures(run, 3)
        assert (first.failure, first.step, first.start_step, first.cause) == (Failure.CRASH, 9, 0, None)
        assert (second.failure, second.start_step, second.cause) == (Failure.INTERRUPTED, 8, Failure.CRASH)
        BeatWriter(run.beat_file).beat(12)
        assert [one.step for one in interrupted_line(run, 3)] == [9, -1, 12]

    def test_a_person_begins_a_new_line(self, run: RunDirectory) -> None:
        begin_attempt(run, 1)
        begin_attempt(run, 2)
        assert earlier_failures(run, 2) == []

    @pytest.mark.parametrize(
        ("step", "before_step", "expected"),
        [(30, None, 20), (30, 20, 10), (30, 10, None), (10, None, 10)],
    )
    def test_the_checkpoint_of_the_next_attempt(
        self, run: RunDirectory, step: int, before_step: int | None, expected: int | None
    ) -> None:
        record = write_attempt(run, 1, "started", "checkpoints/step-00000010")
        for number in (10, 20):
            checkpoint(run, number)
        last = failed(record, Failure.CRASH, step, "boom")
        following = next_attempt(run, record, last, Recovery(Failure.CRASH, 0.0, "again", before_step))
        assert following.checkpoint == (None if expected is None else f"checkpoints/step-{expected:08d}")

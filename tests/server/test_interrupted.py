"""Runs whose keeper went away: which go on by themselves, from where, how often."""

import shutil
from pathlib import Path

import pytest
from support.clerk import Clerk
from support.runs import wait_for

from server.errors import ConflictError
from server.runs.dispatcher import KEEPER_START_S
from server.runs.view import view
from xoron_core.contract import clock
from xoron_core.contract.api import ResumeRun, RunCommand, StopRun
from xoron_core.contract.errors import StateError
from xoron_core.contract.events import TroubleEvent
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.states import RunState


def test_a_run_whose_keeper_was_killed_goes_on_in_its_place(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        other = clerk.create()
        place = run.record().place
        clerk.launch.keepers[run.id].dies(is_saving=False)
        assert clerk.row(run.id).state is RunState.INTERRUPTED
        clerk.tick()
        row = clerk.row(run.id)
        assert (row.state, row.attempt, row.record.resumed_by) == (RunState.STARTING, 2, "server")
        assert (run.attempt(2).cause, run.record().place) == (Failure.INTERRUPTED, place)
        assert clerk.row(other.id).state is RunState.QUEUED
        assert RunState.INTERRUPTED in clerk.seen[run.id]


def test_it_goes_on_so_many_times_and_then_waits_for_a_person(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(max_interruptions=2)
        for attempt in (2, 3):
            clerk.interrupt(run, is_saving=False)
            assert clerk.row(run.id).attempt == attempt
            clerk.launch.keepers[run.id].runs()
            clerk.row(run.id)
        clerk.interrupt(run, is_saving=False)
        row = clerk.row(run.id)
        assert (row.state, row.attempt) == (RunState.INTERRUPTED, 3)
        assert "tried 2 times already (trouble.max_interruptions)" in str(view(row).reason)
        clerk.service.resume(run.id, ResumeRun())
        clerk.tick()
        assert run.attempt(4).cause == "resumed"
        clerk.launch.keepers[run.id].runs()
        clerk.row(run.id)
        clerk.interrupt(run, is_saving=False)
        assert run.attempt(5).cause is Failure.INTERRUPTED, "a person's resume begins the count anew"


def test_a_policy_of_none_waits_for_a_person(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(max_interruptions=0)
        clerk.interrupt(run, is_saving=False)
        row = clerk.row(run.id)
        assert row.state is RunState.INTERRUPTED
        assert "trouble.max_interruptions is 0" in str(view(row).reason)


@pytest.mark.parametrize("verb", ["stop", "pause", "cancel"])
def test_what_was_asked_to_end_stays_where_it_is(tmp_path: Path, verb: str) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        {"stop": lambda: clerk.service.stop(run.id, StopRun()),
         "pause": lambda: clerk.service.pause(run.id, RunCommand()),
         "cancel": lambda: clerk.service.cancel(run.id, RunCommand())}[verb]()  # fmt: skip
        clerk.interrupt(run, is_saving=False)
        assert clerk.row(run.id).state is RunState.INTERRUPTED
        assert not run.attempt_file(2).exists()


def test_who_waits_for_the_checkpoint_of_a_stop_may_do_without(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        for save in (True, True, False, False, True):
            assert clerk.service.stop(run.id, StopRun(save=save)).state is RunState.STOPPING
        assert [command.save for command in run.commands.after(0)] == [True, False]


def test_a_copy_of_a_live_run_waits_for_a_person(tmp_path: Path) -> None:
    with Clerk(tmp_path / "one") as clerk:
        run = clerk.running()
        clerk.launch.keepers[run.id].steps()
        with Clerk(tmp_path / "two") as elsewhere:
            shutil.copytree(run.path, elsewhere.home.runs / run.id)
            elsewhere.row(run.id)
            elsewhere.tick()
            row = elsewhere.row(run.id)
            assert row.state is RunState.INTERRUPTED
            assert "it is a copy" in str(view(row).reason)
            elsewhere.service.resume(run.id, ResumeRun())
            elsewhere.tick()
            assert elsewhere.row(run.id).state is RunState.STARTING, "the original's processes are not the copy's"
        assert clerk.row(run.id).state is RunState.RUNNING


def test_a_copy_of_a_live_run_can_be_deleted(tmp_path: Path) -> None:
    with Clerk(tmp_path / "one") as clerk:
        run = clerk.running()
        with Clerk(tmp_path / "two") as elsewhere:
            shutil.copytree(run.path, elsewhere.home.runs / run.id)
            assert elsewhere.row(run.id).state is RunState.INTERRUPTED
            elsewhere.service.delete(run.id)
            assert elsewhere.index.known() == []


def test_a_copy_under_another_name_is_left_out(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        shutil.copytree(run.path, clerk.home.runs / "another")
        clerk.tick()
        assert clerk.index.known() == [run.id]
        assert clerk.row(run.id).state is RunState.RUNNING


def test_a_deleted_run_that_is_restored_waits_for_a_person(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(max_interruptions=0)
        clerk.interrupt(run, is_saving=False)
        clerk.service.delete(run.id)
        clerk.tick()
        config = clerk.home.trash / run.id / "attempts" / "0001.yaml"
        config.write_text(config.read_text().replace("max_interruptions: 0", "max_interruptions: 3"))
        assert clerk.service.restore(run.id).state is RunState.INTERRUPTED
        clerk.tick()
        assert clerk.row(run.id).state is RunState.INTERRUPTED


def test_a_run_that_is_brought_back_is_at_once_in_the_state_that_it_was_in(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        clerk.launch.keepers[run.id].ends(RunState.COMPLETED)
        clerk.row(run.id)
        clerk.service.delete(run.id)
        del clerk.seen[run.id]
        clerk.service.restore(run.id)
        assert clerk.seen[run.id] == [RunState.COMPLETED]


def test_how_it_ended_is_read_before_it_counts_as_interrupted(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        clerk.ingest.close()  # what is said from here on is not known to the index
        clerk.launch.keepers[run.id].ends(RunState.COMPLETED)
        assert clerk.index.refresh(run.id).state is RunState.RUNNING
        clerk.dispatcher.tick()
        assert clerk.index.refresh(run.id).state is RunState.RUNNING
        assert not run.attempt_file(2).exists()


def test_a_launch_that_fails_is_tried_again_with_growing_delays_and_says_why(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.create({"trouble": {"min_free_disk_gib": 0.0, "restart_delay_s": 4.0, "max_interruptions": 2}})
        clerk.launch.fails = 9
        clerk.tick()
        for attempt, delay_s in ((2, 4), (3, 8)):
            row = clerk.row(run.id)
            assert (row.state, row.attempt) == (RunState.QUEUED, attempt)
            told = f"attempt {attempt - 1} could not be started (Resource temporarily unavailable); "
            assert clerk.reason(run.id).startswith(told)
            assert f"in {delay_s} s" in clerk.reason(run.id)
            clerk.now_s += delay_s - 1
            clerk.tick()
            assert not run.attempt_file(attempt).exists()
            clerk.now_s += 2
            clerk.tick()
        row = clerk.row(run.id)
        assert row.state is RunState.INTERRUPTED
        assert "attempt 3 could not be started" in str(view(row).reason)
        clerk.launch.fails = 0
        clerk.service.resume(run.id, ResumeRun())
        clerk.tick()
        assert clerk.row(run.id).state is RunState.STARTING


def test_a_run_that_waits_for_its_next_try_can_be_taken_out(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.create({"trouble": {"min_free_disk_gib": 0.0, "restart_delay_s": 4.0}})
        clerk.launch.fails = 1
        clerk.tick()
        assert clerk.service.cancel(run.id, RunCommand()).state is RunState.CANCELLED
        clerk.now_s += 10
        clerk.tick()
        assert clerk.row(run.id).state is RunState.CANCELLED


def test_a_failed_launch_keeps_the_checkpoint_that_was_chosen(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        keeper = clerk.launch.keepers[run.id]
        for _ in range(2):
            keeper.steps()
            keeper.saves()
        keeper.ends(RunState.STOPPED)
        clerk.row(run.id)
        clerk.launch.fails = 1
        clerk.service.resume(run.id, ResumeRun(checkpoint="checkpoints/step-00000001"))
        clerk.tick()
        assert clerk.row(run.id).attempt == 3
        assert run.attempt(3).checkpoint == "checkpoints/step-00000001"


def test_a_keeper_that_ends_at_once_is_told(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        clerk.launch.is_stillborn = True
        run = clerk.create({"trouble": {"min_free_disk_gib": 0.0, "max_interruptions": 0}})
        clerk.tick()
        clerk.tick()
        row = clerk.row(run.id)
        assert row.state is RunState.INTERRUPTED
        assert "its keeper ended with status 2 before it began" in str(view(row).reason)


def test_a_keeper_that_an_earlier_server_started_has_time_to_say_so(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        clerk.launch.is_stillborn = True
        run = clerk.create()
        clerk.tick()
    with Clerk(tmp_path) as clerk:
        clerk.row(run.id)
        clerk.tick()
        assert clerk.row(run.id).attempt == 1
        clerk.now_s += KEEPER_START_S + 1
        clerk.tick()
        row = clerk.row(run.id)
        assert (row.state, row.attempt) == (RunState.STARTING, 2)


def test_an_attempt_of_the_keepers_own_never_reads_interrupted(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        keeper = clerk.launch.keepers[run.id]
        for expected in (RunState.RECOVERING, RunState.STARTING, RunState.RUNNING):
            {
                RunState.RECOVERING: keeper.recovers,
                RunState.STARTING: keeper.begins_the_next,
                RunState.RUNNING: keeper.runs,
            }[expected]()
            clerk.tick()
            row = clerk.row(run.id)
            assert (row.state, row.attempt) == (expected, 1 if expected is RunState.RECOVERING else 2)
        assert RunState.INTERRUPTED not in clerk.seen[run.id]
        clerk.service.stop(run.id, StopRun())
        assert clerk.row(run.id).state is RunState.STOPPING
        keeper.obeys()
        assert clerk.row(run.id).state is RunState.STOPPED
        assert clerk.service.resume(run.id, ResumeRun()).attempt == 3


def test_a_keeper_that_died_between_two_attempts_leaves_no_hole(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        keeper = clerk.launch.keepers[run.id]
        keeper.recovers()
        clerk.row(run.id)
        run.write_attempt(run.attempt(1).model_copy(update={"attempt": 2, "cause": Failure.CRASH}))
        keeper.dies(is_saving=False)
        clerk.row(run.id)
        clerk.tick()
        row = clerk.row(run.id)
        assert (row.state, row.attempt) == (RunState.STARTING, 3)
        assert [one.attempt for one in run.line(3)] == [1, 2, 3]


def test_the_newest_trouble_of_the_line_is_shown(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        keeper = clerk.launch.keepers[run.id]
        keeper.say(TroubleEvent(action="restart", failure=Failure.CRASH, reason="it broke"))
        keeper.recovers()
        keeper.begins_the_next()
        trouble = view(clerk.row(run.id)).trouble
        assert trouble is not None
        assert (trouble.action, trouble.failure, trouble.reason) == ("restart", Failure.CRASH, "it broke")
        keeper.dies(is_saving=False)
        clerk.row(run.id)
        clerk.tick()
        assert view(clerk.row(run.id)).trouble == trouble
        clerk.launch.keepers[run.id].ends(RunState.FAILED, Failure.REFUSED)
        clerk.row(run.id)
        clerk.service.resume(run.id, ResumeRun())
        assert view(clerk.row(run.id)).trouble is None


def test_the_request_is_shown_with_its_deadline_until_the_trainer_answers(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(stop_grace_s=90)
        clerk.service.pause(run.id, RunCommand())
        phase = view(clerk.row(run.id)).phase
        assert phase is not None
        assert (phase.phase, phase.detail) == ("requested", "pause was asked; now: training")
        assert phase.deadline is not None
        assert phase.since < phase.deadline
        assert view(clerk.rebuilt()[run.id]).phase == phase
        wait_for(lambda: clock.now() > phase.since)
        clerk.service.stop(run.id, StopRun())
        later = view(clerk.row(run.id)).phase
        assert later is not None
        assert str(later.detail).startswith("stop was asked")
        assert later.since > phase.since
        assert later.deadline == phase.deadline, "a second request does not give the trainer more time"
        clerk.launch.keepers[run.id].answers()
        clerk.launch.keepers[run.id].say()
        row = clerk.row(run.id)
        answered = view(row).phase
        assert answered is not None
        assert (row.state, answered.phase, answered.detail) == (RunState.STOPPING, "requested", None)


def test_a_queued_run_cannot_be_deleted_and_a_live_one_not_restored(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        waiting = clerk.create()
        for run_id in (run.id, waiting.id):
            with pytest.raises(ConflictError):
                clerk.service.delete(run_id)
        with pytest.raises(StateError):
            clerk.service.resume(run.id, ResumeRun())

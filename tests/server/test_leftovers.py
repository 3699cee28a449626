"""Processes that outlive their keeper: they are waited for, ended in the end, and no state is told too early."""

from pathlib import Path
from typing import Any

import pytest
from support.clerk import Clerk, PaperGpus
from support.paper_keepers import deaf_process
from support.runs import wait_for

from server.errors import ConflictError
from server.runs.dispatcher import KEEPER_START_S
from server.runs.view import view
from xoron_core.contract.api import ResumeRun, RunCommand, StopRun
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter

ONE_GPU = {"resources": {"device": "cuda"}}


def test_a_trainer_that_is_saving_is_waited_for_and_keeps_the_slot(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(stop_grace_s=30)
        keeper = clerk.launch.keepers[run.id]
        urgent = clerk.create(priority=9)
        keeper.steps()
        keeper.dies(is_saving=True)
        clerk.row(run.id)
        clerk.tick()
        assert clerk.row(run.id).state is RunState.QUEUED
        assert clerk.reason(run.id) == "waits for the processes of its earlier attempt to save and exit"
        assert clerk.reason(urgent.id).startswith("1 of 1 slot is taken by " + run.id)
        clerk.service.pause(urgent.id, RunCommand())
        keeper.saves()
        keeper.has_saved()
        clerk.tick()
        assert clerk.row(run.id).state is RunState.STARTING
        assert run.attempt(2).checkpoint == "checkpoints/step-00000001"


def test_a_run_whose_trainer_is_still_saving_cannot_be_deleted(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(max_interruptions=0)
        clerk.launch.keepers[run.id].dies(is_saving=False)
        with EventWriter(run.path, 1):  # a rank, whose launcher went with the keeper
            clerk.row(run.id)
            with pytest.raises(ConflictError, match="its trainer is still closing"):
                clerk.service.delete(run.id)
        clerk.service.delete(run.id)


@pytest.mark.parametrize("max_interruptions", [0, 3])
def test_a_trainer_that_does_not_end_is_killed_after_its_grace(tmp_path: Path, max_interruptions: int) -> None:
    """It holds the GPU that the next keeper needs, so that no next keeper can end it."""
    with Clerk(tmp_path, gpus=PaperGpus("GPU-a")) as clerk:
        leased = clerk.hold_leases()
        run = clerk.running(ONE_GPU, stop_grace_s=30, max_interruptions=max_interruptions)
        with deaf_process(run, leased[run.id]) as trainer:
            for lease in leased.pop(run.id):
                lease.release()
            clerk.interrupt(run, is_saving=False, trainer=trainer)
            other = clerk.create()
            clerk.now_s += 29
            clerk.tick()
            assert trainer.is_alive()
            assert clerk.reason(other.id) == f"1 of 1 slot is taken by {run.id} ({run.record().name})"
            clerk.now_s += 2
            clerk.tick()
            wait_for(lambda: not trainer.is_alive())
            clerk.tick()
        if max_interruptions:
            assert clerk.row(run.id).state is RunState.STARTING
            clerk.end(run.id, leased)
        else:
            assert clerk.row(run.id).state is RunState.INTERRUPTED
            assert clerk.row(other.id).state is RunState.STARTING
            clerk.service.delete(run.id)


def test_a_process_that_neither_file_nor_lock_tells_of_is_waited_for_and_killed(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(stop_grace_s=30)
        with deaf_process(run) as rank:
            clerk.interrupt(run, is_saving=False)
            assert clerk.row(run.id).state is RunState.QUEUED
            clerk.now_s += 31
            clerk.tick()
            wait_for(lambda: not rank.is_alive())
            clerk.tick()
        assert clerk.row(run.id).state is RunState.STARTING


def test_a_process_that_was_killed_and_stays_is_not_waited_for_in_a_hurry(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running(stop_grace_s=30)
        clerk.interrupt(run, is_saving=True)
        assert clerk.dispatcher.tick()
        clerk.now_s += 60
        assert not clerk.dispatcher.tick()
        assert clerk.row(run.id).state is RunState.QUEUED


def ask(clerk: Clerk, run: RunDirectory, verb: str) -> RunState:
    """The state that the answer tells."""
    asked: dict[str, Any] = {
        "stop": lambda: clerk.service.stop(run.id, StopRun()),
        "pause": lambda: clerk.service.pause(run.id, RunCommand()),
        "cancel": lambda: clerk.service.cancel(run.id, RunCommand()),
    }
    state: RunState = asked[verb]().state
    return state


@pytest.mark.parametrize(("verb", "end"), [("stop", "stopped"), ("pause", "paused"), ("cancel", "cancelled")])
def test_no_end_is_told_while_the_trainer_is_there_and_its_slot_is_not_given_away(
    tmp_path: Path, verb: str, end: str
) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        clerk.interrupt(run, is_saving=True)
        other = clerk.create()
        assert ask(clerk, run, verb) is RunState.QUEUED
        clerk.tick()
        assert clerk.row(run.id).state is RunState.QUEUED
        assert clerk.reason(run.id).startswith(f"is {end} as soon as the processes of its earlier attempt")
        assert clerk.row(other.id).state is RunState.QUEUED
        with pytest.raises(ConflictError, match="resume it then"):
            clerk.service.resume(run.id, ResumeRun())
        clerk.launch.keepers[run.id].has_saved()
        clerk.tick()
        assert clerk.row(run.id).state.value == end
        assert clerk.row(other.id).state is RunState.STARTING
        assert not run.attempt_file(2).exists()


def test_of_several_requests_the_strongest_holds(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        clerk.interrupt(run, is_saving=True)
        for verb in ("pause", "stop", "pause", "cancel", "stop", "cancel"):
            assert ask(clerk, run, verb) is RunState.QUEUED
        assert view(clerk.row(run.id)).actions == []
        clerk.launch.keepers[run.id].has_saved()
        clerk.tick()
        assert clerk.row(run.id).state is RunState.CANCELLED


def test_an_interrupted_run_keeps_its_slot_until_it_is_clear_what_follows(tmp_path: Path) -> None:
    with Clerk(tmp_path) as clerk:
        clerk.launch.is_stillborn = True
        run = clerk.create()
        clerk.tick()
    with Clerk(tmp_path) as clerk:  # a server that does not know yet what became of the keeper
        other = clerk.create()
        clerk.tick()
        assert clerk.row(run.id).state is RunState.INTERRUPTED
        assert clerk.reason(other.id) == f"1 of 1 slot is taken by {run.id} ({run.record().name})"
        assert clerk.dispatcher.kept_slots == (run.id,)
        clerk.now_s += KEEPER_START_S + 1
        clerk.tick()
        assert clerk.row(run.id).state is RunState.STARTING
        assert clerk.dispatcher.kept_slots == ()

"""Stop, pause and cancel: honoured in every phase, however often they are pressed, and nothing is left behind."""

import contextlib
import os
import random
import threading
from typing import Any

import psutil
import pytest
from support.course import Undisturbed, assert_same, of_kind, phases, story
from support.fault_bench import LIVE_S, FaultBench, Holdings, post, start_and_stop, wait_end, wait_step
from support.faulty_trainer import Fault
from support.run_processes import keeper_of, marked
from support.runs import wait_for
from support.serving import RunningServer

from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import complete_checkpoints, verify_checkpoint

pytestmark = pytest.mark.timeout(600)

SLOW = Fault("slow", seconds=0.05, attempts=())
NUM_STARTS = 10
SET_UP = ["setup", "data", "model", "restoring", "training"]
"""Its phases, and what comes after them."""


def gate(phase: str, attempt: int) -> Fault:
    """The attempt stays in that phase until somebody asks it to end."""
    return Fault("gate", phase=phase, attempts=(attempt,))


def is_in_order(wanted: list[str], told: list[str]) -> bool:
    """Whether `told` has these in this order, others between them or not."""
    rest = iter(told)
    return all(phase in rest for phase in wanted)


def stop_in(server: RunningServer, run: RunDirectory, phase: str, attempt: int) -> dict[str, Any]:
    """Stop an attempt in a phase that a gate holds it in; the row, stopped."""
    wait_for(lambda: phase in phases(run, attempt), LIVE_S)
    post(server, run, "stop")
    row = wait_end(server, run, "stopped")
    assert row["attempt"] == attempt
    told = phases(run, attempt)
    assert is_in_order([phase, "requested", "closing", "exited", "memory_free"], told), told
    return row


@pytest.mark.slow
def test_stop_is_honoured_in_every_phase_of_the_set_up(bench: FaultBench, undisturbed: Undisturbed) -> None:
    in_setup = {2: "setup", 3: "data", 4: "model", 5: "restoring"}
    with bench.serve() as server:
        run = bench.create(server, SLOW, *(gate(phase, attempt) for attempt, phase in in_setup.items()))
        wait_step(server, run, 3)
        post(server, run, "stop")
        step = wait_end(server, run, "stopped")["step"]
        saved = complete_checkpoints(run.checkpoints)
        for attempt, phase in in_setup.items():
            post(server, run, "resume")
            assert stop_in(server, run, phase, attempt)["step"] == step
            told = phases(run, attempt)
            assert not set(told) & set(SET_UP[SET_UP.index(phase) + 1 :]), f"it went on after the stop: {told}"
            assert "saving" not in told  # nothing was learned since the last one
        assert complete_checkpoints(run.checkpoints) == saved
        post(server, run, "resume")
        wait_end(server, run, "completed")
        assert story(run) == ["started → stopped", *["resumed → stopped"] * len(in_setup), "resumed → completed"]
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_stop_is_honoured_in_every_phase_of_training(bench: FaultBench, undisturbed: Undisturbed) -> None:
    """Each time the step that was done last is in a checkpoint that was read back."""
    in_training = {1: "evaluating", 2: "sampling", 3: "saving"}
    with bench.serve() as server:
        gates = [gate(phase, attempt) for attempt, phase in in_training.items()]
        run = bench.create(server, SLOW, *gates, config={"training": {"eval_steps": 3}})
        for attempt, phase in in_training.items():
            if phase == "sampling":
                wait_for(lambda attempt=attempt: "training" in phases(run, attempt), LIVE_S)  # type: ignore[misc]
                server.wait_state(run.id, "running", timeout_s=LIVE_S)
                post(server, run, "sample")
            step = stop_in(server, run, phase, attempt)["step"]
            told = phases(run, attempt)
            assert is_in_order(["requested", "draining", "verified", "closing"], told), told
            newest = complete_checkpoints(run.checkpoints)[-1]
            assert newest == run.checkpoint_dir(step)
            verify_checkpoint(newest)
            post(server, run, "resume")
        wait_end(server, run, "completed")
        assert story(run) == ["started → stopped", "resumed → stopped", "resumed → stopped", "resumed → completed"]
        assert_same(server, run.id, undisturbed)


def test_stop_pressed_ten_times_is_one_stop(bench: FaultBench) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW)
        wait_step(server, run, 2)
        codes: list[int] = []

        def press() -> None:
            codes.append(server.api.post(f"/runs/{run.id}/stop").status_code)

        threads = [threading.Thread(target=press) for _ in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_end(server, run, "stopped")
        press()
        assert codes == [202] * 10
        assert len(list(run.commands.after(0))) == 1
        assert [told["state"] for told in of_kind(run, "state")] == ["starting", "running", "stopping", "stopped"]
        assert server.show(run.id)["state"] == "stopped"


@pytest.mark.slow
def test_paused_and_resumed_with_two_modalities_it_equals_a_run_never_paused(
    bench: FaultBench, undisturbed_with_pictures: Undisturbed, pictures: dict[str, Any]
) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW, config=pictures)
        for step in (2, 6):
            wait_step(server, run, step)
            post(server, run, "pause")
            row = wait_end(server, run, "paused")
            verify_checkpoint(run.checkpoint_dir(row["step"]))
            post(server, run, "resume")
        wait_end(server, run, "completed")
        assert story(run) == ["started → paused", "resumed → paused", "resumed → completed"]
        assert_same(server, run.id, undisturbed_with_pictures)


@pytest.mark.slow
def test_a_trainer_that_ignores_sigterm_is_killed_with_all_that_it_started(bench: FaultBench) -> None:
    with bench.serve() as server:
        run = bench.create(server, Fault("ignore SIGTERM", step=7), stop_grace_s=1.0, term_grace_s=1.0)
        wait_step(server, run, 6)
        started = wait_for(lambda: of_other_sessions(run), LIVE_S)
        post(server, run, "stop")
        row = wait_end(server, run, "stopped")
        assert not any(process.is_alive() for process in started)
        assert "SIGKILL" in row["reason"]
        assert [told["action"] for told in of_kind(run, "trouble")] == ["terminate", "kill"]
        assert story(run) == ["started → stopped"]
        verify_checkpoint(complete_checkpoints(run.checkpoints)[-1])


def of_other_sessions(run: RunDirectory) -> list[ProcessIdentity]:
    """What the trainer has started outside its own session."""
    trainer = keeper_of(run).trainer
    assert trainer is not None
    found = [ProcessIdentity.of(pid) for pid in marked(run) if os.getsid(pid) != trainer.pid]
    return [process for process in found if process is not None]


@pytest.mark.slow
def test_ten_starts_and_stops_leave_nothing_behind_in_the_server(bench: FaultBench) -> None:
    moments = random.Random(10)
    with bench.serve_apart() as served:
        server, process = served.server, psutil.Process(served.process.pid)
        for _ in range(2):  # the pools of threads and connections fill up first
            start_and_stop(bench, server, 0.0)
        before = Holdings.of(process)
        for _ in range(NUM_STARTS):
            start_and_stop(bench, server, moments.choice([0.0, 0.5, 3.0]))
        wait_for(lambda: not process.children(), LIVE_S)
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: before.has_not_grown_to(Holdings.of(process)), 20)
        after = Holdings.of(process)
        assert not after.files - before.files
        assert before.has_not_grown_to(after), (before, after)

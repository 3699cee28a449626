"""Whoever is killed, the run goes on, and comes to what it would have come to."""

import os
import random
import signal

import pytest
from support.course import Undisturbed, assert_same, of_kind, story
from support.fault_bench import LIVE_S, FaultBench, let_queue_go_by, post, wait_end, wait_step
from support.faulty_trainer import Fault
from support.following import Follower, is_step
from support.run_damage import boot_before_this_one, cut_last_line
from support.run_processes import keeper_of, kill_keeper, kill_trainer, marked, wait_gone
from support.runs import events, wait_for

pytestmark = pytest.mark.timeout(600)

SLOW = Fault("slow", seconds=0.05, attempts=())
NUM_KILLS = 5


def test_a_killed_trainer_is_started_again_from_its_checkpoint(bench: FaultBench, undisturbed: Undisturbed) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW)
        wait_step(server, run, 8)
        kill_trainer(run)
        row = wait_end(server, run, "completed")
        assert row["attempt"] == 2
        assert story(run) == ["started → crash", "crash → completed"]
        assert "SIGKILL" in run.exits().attempts[0].reason
        assert (row["trouble"]["action"], row["trouble"]["failure"]) == ("restart", "crash")
        assert of_kind(run, "receipt")[0]["step"] % 5 == 0
        assert_same(server, run.id, undisturbed)


def test_a_trainer_whose_keeper_is_killed_saves_and_is_resumed_by_itself(
    bench: FaultBench, undisturbed: Undisturbed
) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW)
        wait_step(server, run, 8)
        kill_keeper(run)
        shown = wait_for(lambda: (row := server.show(run.id))["state"] != "running" and row, 2.0)
        assert (shown["attempt"], shown["state"]) in {(1, "interrupted"), (2, "queued"), (2, "starting")}
        row = wait_end(server, run, "completed")
        assert row["attempt"] == 2
        assert story(run) == ["started → interrupted", "interrupted → completed"]
        assert run.record().resumed_by == "server"
        last_before = [told["step"] for told in of_kind(run, "metrics") if told["attempt"] == 1][-1]
        assert of_kind(run, "receipt")[0]["step"] == last_before  # nothing was learned twice
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_an_interrupted_run_that_may_not_be_resumed_waits_for_a_person(
    bench: FaultBench, undisturbed: Undisturbed
) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW, max_interruptions=0)
        wait_step(server, run, 8)
        trainer = keeper_of(run).trainer
        assert trainer is not None
        kill_keeper(run)
        os.kill(trainer.pid, signal.SIGKILL)
        row = server.wait_state(run.id, "interrupted", timeout_s=5)
        wait_gone(run)
        let_queue_go_by(bench, server)
        row = server.show(run.id)
        assert (row["state"], row["attempt"]) == ("interrupted", 1)
        assert "resume" in row["reason"]
        post(server, run, "resume")
        wait_end(server, run, "completed")
        assert story(run) == ["started → interrupted", "resumed → completed"]
        assert run.record().resumed_by == "person"
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_keeper_and_trainer_are_killed_and_the_run_is_resumed_by_itself(
    bench: FaultBench, undisturbed: Undisturbed
) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW)
        wait_step(server, run, 8)
        trainer = keeper_of(run).trainer
        assert trainer is not None
        kill_keeper(run)
        os.kill(trainer.pid, signal.SIGKILL)
        wait_end(server, run, "completed")
        assert story(run) == ["started → interrupted", "interrupted → completed"]
        assert all(saved["reason"] != "ending" for saved in of_kind(run, "checkpoint"))
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_a_server_killed_at_any_moment_finds_its_run_again(bench: FaultBench, undisturbed: Undisturbed) -> None:
    """It pauses, resumes, stops and resumes the run that another server began, and the stream has every event once."""
    moments = random.Random(7)
    asked = {1: ("pause", "paused"), 3: ("stop", "stopped")}
    follower: Follower | None = None
    for number in range(NUM_KILLS):
        with bench.serve_apart() as served:
            server = served.server
            if follower is None:
                run = bench.create(server, SLOW)
                follower = Follower(run.id)
            elif number in asked:
                verb, state = asked[number]
                assert follower.follow(server, is_step, LIVE_S)
                post(server, run, verb)
                wait_end(server, run, state)
                post(server, run, "resume")
            row = server.wait_state(run.id, "starting", "running", timeout_s=5)
            assert row["state"] in {"starting", "running"}
            follower.follow(server, lambda record: False, moments.uniform(0.0, 2.0))
            served.kill()
    assert follower is not None
    with bench.serve_apart() as served:
        wait_end(served.server, run, "completed")
        follower.follow(served.server, lambda record: record["seq"] == events(run)[-1]["seq"], LIVE_S)
        assert follower.records == events(run)
        assert story(run) == ["started → paused", "resumed → stopped", "resumed → completed"]
        assert_same(served.server, run.id, undisturbed)


@pytest.mark.slow
def test_after_a_power_cut_a_torn_line_is_cut_and_the_run_goes_on(bench: FaultBench, undisturbed: Undisturbed) -> None:
    """Server, keeper and trainer are gone at one moment, the last event is half written, the machine has rebooted."""
    with bench.serve_apart() as served:
        run = bench.create(served.server, SLOW)
        wait_step(served.server, run, 8)
        served.kill()
    for pid in [keeper_of(run).keeper.pid, *marked(run)]:
        os.kill(pid, signal.SIGKILL)
    wait_gone(run)
    cut_last_line(run)
    boot_before_this_one(run)
    with bench.serve_apart() as served:
        assert served.server.show(run.id)["state"] != "running"
        wait_end(served.server, run, "completed")
        assert story(run) == ["started → interrupted", "interrupted → completed"]
        assert any("torn record" in told["message"] for told in of_kind(run, "log"))
        assert_same(served.server, run.id, undisturbed)


@pytest.mark.slow
def test_one_dead_rank_of_two_ends_both_and_the_run_goes_on(bench: FaultBench, undisturbed_by_two: Undisturbed) -> None:
    with bench.serve() as server:
        run = bench.create(server, Fault("kill", step=8, rank=1), config={"resources": {"processes": 2}})
        row = wait_end(server, run, "completed")
        assert row["attempt"] == 2
        assert story(run) == ["started → crash", "crash → completed"]
        assert "rank 1" in run.exits().attempts[0].reason
        assert_same(server, run.id, undisturbed_by_two)

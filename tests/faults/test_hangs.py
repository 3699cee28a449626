"""A trainer that gets nowhere: its stacks are dumped, and it is started again."""

import signal

import pytest
from support.course import Undisturbed, assert_same, of_kind, story
from support.fault_bench import HANG_S, FaultBench, log_of, wait_end, wait_step
from support.faulty_trainer import Fault
from support.run_processes import keeper_of, kill_trainer

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_a_busy_loop_is_found_in_the_log_and_left_behind(bench: FaultBench, undisturbed: Undisturbed) -> None:
    with bench.serve() as server:
        run = bench.create(server, Fault("loop in Python", step=7), hang_after_s=HANG_S)
        wait_end(server, run, "completed")
        assert story(run) == ["started → hang", "hang → completed"]
        end = run.exits().attempts[0]
        assert f"{HANG_S:g} s" in end.reason
        assert end.step == 6  # the last that was done
        assert "in loop_in_python" in log_of(run)
        assert [(told["action"], told["failure"]) for told in of_kind(run, "trouble")] == [
            ("kill", None),
            ("restart", "hang"),
        ]
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_a_loop_in_c_and_a_stopped_process_are_left_behind(bench: FaultBench, undisturbed: Undisturbed) -> None:
    """No handler written in Python runs in the one, none at all in the other."""
    with bench.serve() as server:
        run = bench.create(server, Fault("loop in C", step=7), Fault("slow", seconds=0.05), hang_after_s=HANG_S)
        wait_step(server, run, 12)
        assert "in loop_in_c" in log_of(run)
        keeper_of(run, attempt=2)
        kill_trainer(run, signal.SIGSTOP)
        wait_end(server, run, "completed")
        assert story(run) == ["started → hang", "hang → hang", "hang → completed"]
        assert "SIGSTOP" in run.exits().attempts[1].reason
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_one_blocked_rank_of_two_is_found_in_the_log(bench: FaultBench, undisturbed_by_two: Undisturbed) -> None:
    with bench.serve() as server:
        config = {"resources": {"processes": 2}}
        run = bench.create(server, Fault("block", step=7, rank=1), config=config, hang_after_s=HANG_S)
        wait_end(server, run, "completed")
        assert story(run) == ["started → hang", "hang → completed"]
        log = log_of(run)
        assert "in block" in log  # rank 1 waits for what never comes
        assert "distributed/group.py" in log  # rank 0 for rank 1
        assert_same(server, run.id, undisturbed_by_two)

"""Who is who: a pid that belongs to somebody else by now, a directory that is a copy."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from support.course import Undisturbed, assert_same, story
from support.fault_bench import FaultBench, let_queue_go_by, post, wait_end, wait_step
from support.faulty_trainer import Fault
from support.run_damage import reuse_pid
from support.run_processes import kill_keeper, wait_gone

from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import RunDirectory

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

SLOW = Fault("slow", seconds=0.05, attempts=())


@pytest.fixture
def stranger() -> Iterator[ProcessIdentity]:
    """A process that has nothing to do with any run; it is still there in the end."""
    process = subprocess.Popen(["sleep", "600"])
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    yield identity
    assert process.poll() is None, "a process that has nothing to do with the run was ended"
    process.kill()
    process.wait()


def test_a_pid_that_is_a_strangers_by_now_is_neither_the_keeper_nor_signalled(
    bench: FaultBench, undisturbed: Undisturbed, stranger: ProcessIdentity
) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW, max_interruptions=0)
        wait_step(server, run, 8)
        kill_keeper(run)
        wait_gone(run)
    reuse_pid(run, stranger)
    with bench.serve() as server:
        assert server.show(run.id)["state"] == "interrupted"
        post(server, run, "resume")
        wait_step(server, run, 15)
        post(server, run, "stop")
        wait_end(server, run, "stopped")
        post(server, run, "resume")
        wait_end(server, run, "completed")
        assert story(run) == ["started → interrupted", "resumed → stopped", "resumed → completed"]
        assert_same(server, run.id, undisturbed)


def test_a_copy_of_a_run_that_goes_on_elsewhere_is_not_that_run(
    bench: FaultBench, other_bench: FaultBench, undisturbed: Undisturbed
) -> None:
    """A backup is restored into another home while the original trains."""
    with bench.serve() as server:
        run = bench.create(server, Fault("slow", seconds=0.3, attempts=()))
        wait_step(server, run, 8)
        other_bench.home.prepare()
        copy = RunDirectory(other_bench.home.runs / run.id)
        shutil.copytree(run.path, copy.path)
        with other_bench.serve() as other:
            row = other.wait_state(run.id, "interrupted")
            let_queue_go_by(other_bench, other)
            row = other.show(run.id)
            assert (row["state"], row["attempt"]) == ("interrupted", 1)
            assert server.show(run.id)["state"] == "running"
        wait_end(server, run, "completed")
        assert story(run) == ["started → completed"]
        assert_same(server, run.id, undisturbed)
    with other_bench.serve() as other:
        post(other, copy, "resume")
        wait_end(other, copy, "completed")
        assert_same(other, copy.id, undisturbed)

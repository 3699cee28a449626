"""The keeper and what stands between it and a trainer: launchers, GPUs, the kernel."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kept_lines import Line, MakeLine, kept_lines
from support.runs import begin_attempt, events, make_run, states, wait_for

from server.gpus.leases import Leases
from server.runs.attempts import begin_attempt as begin_asked
from server.runs.launchers.local import launch
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import RunDirectory


@pytest.fixture
def line(tmp_path: Path) -> Iterator[MakeLine]:
    with kept_lines(tmp_path) as make:
        yield make


class TestGpus:
    """Of machines that tests do not have."""

    XID = "GPU GPU-a: Xid 79: GPU has fallen off the bus"

    def test_a_run_whose_gpu_is_lost_before_it_starts_fails_by_that(self, line: MakeLine) -> None:
        one = line("complete").start_oddly("gpu-lost-after-0")
        [end] = one.exits()
        assert (end.state, end.failure, end.reason) == (
            "failed",
            "gpu_lost",
            f"cannot start the trainer: {self.XID}",
        )
        assert states(one.run) == ["starting", "failed"]

    def test_a_run_whose_gpu_is_lost_on_the_way_fails_by_that_and_is_not_started_again(self, line: MakeLine) -> None:
        one = line("crash_twice").start_oddly("gpu-lost-after-1")
        [end] = one.exits()
        assert (end.state, end.failure) == ("failed", "gpu_lost")
        assert end.reason == f"{self.XID}; RuntimeError: the loss went to the moon at step 5"
        assert one.troubles() == [("none", "gpu_lost")]
        assert "the machine needs a person" in next(r for r in events(one.run) if r["kind"] == "trouble")["reason"]

    def test_memory_that_stays_taken_is_told_before_the_end(self, line: MakeLine) -> None:
        one = line("complete").start_oddly("memory-held")
        assert [end.state for end in one.exits()] == ["completed"]
        exited, held, completed = events(one.run)[-3:]
        assert (exited["phase"], held["action"], completed["state"]) == ("exited", "none", "completed")
        assert held["reason"].startswith("GPU memory is not free 0.3 s after the last process of the run: 5.00 GiB on")


def test_a_process_that_sigkill_does_not_end_is_named(line: MakeLine) -> None:
    one = line("deaf", {"stop_grace_s": 0.2, "term_grace_s": 0.2}).start_oddly("slow-sigkill")
    wait_for(lambda: (one.run.path / "deaf.pid").exists())
    one.run.commands.post(CommandKind.STOP, attempt=1)
    [end] = one.exits()
    assert (end.state, end.signal) == ("stopped", signal.SIGKILL)
    assert one.troubles() == [("terminate", None), ("kill", None), ("none", None)]
    told = f"processes [{one.trainer().pid}] are still there 0.2 s after SIGKILL"
    assert told in [record for record in events(one.run) if record["kind"] == "trouble"][-1]["reason"]
    assert told in one.log()


@pytest.mark.slow
def test_two_ranks_one_dies_both_are_started_again_and_stopped(line: MakeLine) -> None:
    one = line("ranks", resources={"device": "cpu", "processes": 2}).start()
    wait_for(lambda: all((one.run.path / f"rank-{rank}.pid").exists() for rank in (0, 1)), timeout_s=60)
    one.keeper.terminate()
    exits = one.exits()
    assert [(end.state, end.failure) for end in exits] == [("recovering", "crash"), ("stopped", None)], one.log()
    assert exits[0].reason == "ranks 0, 1 ended without a word"
    assert exits[1].step == 7
    assert "death signal" not in one.log(), "the ranks are signalled, not their launcher, which would hurry them"


class TestLaunchers:
    """torchrun between the keeper and two ranks."""

    @pytest.fixture
    def one(self, line: MakeLine) -> Line:
        return line("good_ranks", resources={"device": "cpu", "processes": 2}).start()

    def until_ranks_of(self, one: Line, attempt: int) -> list[ProcessIdentity]:
        def look() -> list[ProcessIdentity] | None:
            files = [one.run.path / f"rank-{rank}-of-{attempt}.pid" for rank in (0, 1)]
            found = [ProcessIdentity.of(int(file.read_text())) for file in files if file.exists()]
            return [rank for rank in found if rank is not None] if len(found) == 2 else None

        return wait_for(look, timeout_s=60)

    def test_one_that_is_killed_is_no_stop(self, one: Line) -> None:
        self.until_ranks_of(one, 1)
        os.kill(one.trainer().pid, signal.SIGKILL)
        self.until_ranks_of(one, 2)
        one.keeper.terminate()
        exits = one.exits()
        assert [(end.state, end.failure) for end in exits] == [("recovering", "crash"), ("stopped", None)], one.log()
        assert (exits[0].signal, exits[0].step) == (signal.SIGKILL, 4)
        assert exits[0].reason == "ranks 0, 1 ended without a word"
        assert [state for attempt, state in one.states() if attempt == 1] == ["starting", "running", "recovering"]

    @pytest.mark.slow
    def test_when_the_keeper_is_killed_the_ranks_save(self, one: Line) -> None:
        ranks = self.until_ranks_of(one, 1)
        one.keeper.kill()
        one.keeper.wait(timeout=10)
        wait_for(lambda: not any(rank.is_alive() for rank in ranks))
        assert [end.code for end in one.run.rank_ends(1)] == [ExitCode.STOPPED] * 2
        assert states(one.run) == ["starting", "running", "stopping"]

    @pytest.mark.slow
    def test_when_it_is_killed_with_its_keeper_the_ranks_end_and_the_next_keeper_goes_on(self, one: Line) -> None:
        ranks, launcher = self.until_ranks_of(one, 1), one.trainer()
        one.keeper.kill()
        os.kill(launcher.pid, signal.SIGKILL)
        one.keeper.wait(timeout=10)
        wait_for(lambda: not any(rank.is_alive() for rank in ranks))
        begin_asked(one.run, one.run.record().model_copy(update={"attempt": 2, "resumed_by": "server"}))
        one.start(2)
        self.until_ranks_of(one, 2)
        one.keeper.terminate()
        assert [(end.state, end.failure) for end in one.exits()] == [("interrupted", "interrupted"), ("stopped", None)]


def test_leases_reach_the_trainer(tmp_path: Path) -> None:
    run: RunDirectory = make_run(tmp_path / "runs")
    begin_attempt(run)
    leases = Leases(tmp_path / "leases")
    taken = leases.take(["GPU-none"], 1, "a test")
    assert taken is not None
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('sees', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(600)"
    )
    keeper = launch(run, 1, trainer=[sys.executable, "-c", code], leases=taken)
    for lease in taken:
        lease.release()
    wait_for(lambda: "sees GPU-none" in run.log_file.read_text())
    record = run.keeper()
    assert record is not None
    assert record.trainer is not None
    assert record.gpus == ["GPU-none"]
    assert leases.holders(["GPU-none"]) == {"GPU-none": "a test"}
    keeper.kill()
    keeper.wait(timeout=10)
    assert leases.holders(["GPU-none"]) == {"GPU-none": "a test"}, "it is the trainer's, too"
    os.kill(record.trainer.pid, signal.SIGKILL)
    wait_for(lambda: not leases.holders(["GPU-none"]))

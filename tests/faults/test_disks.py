"""Disks that are full, and checkpoints that are not what they were."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.course import Undisturbed, assert_same, of_kind, story
from support.fault_bench import LIVE_S, FaultBench, post, wait_end, wait_step
from support.faulty_trainer import Fault
from support.full_disks import Ballast
from support.mounts import need_mounts, small_disk
from support.run_damage import flip_a_byte
from support.runs import wait_for

from xoron_core.contract.beat import read_beat
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import complete_checkpoints

pytestmark = pytest.mark.timeout(600)

DISK = "120m"
LESS_THAN_A_CHECKPOINT = 8 * 2**20
SLOW = Fault("slow", seconds=0.05, attempts=())


@pytest.fixture
def small_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultBench]:
    """A bench whose home is on a small disk of its own."""
    need_mounts(request)
    with small_disk(tmp_path / "disk", DISK) as disk:
        bench = FaultBench(disk)
        yield bench
        bench.close()


@pytest.mark.slow
def test_a_disk_without_room_for_a_checkpoint_is_waited_for(small_bench: FaultBench, undisturbed: Undisturbed) -> None:
    with small_bench.serve() as server:
        run = small_bench.create(server, SLOW)
        wait_step(server, run, 6)
        ballast = Ballast(small_bench.home.path)
        ballast.leave(LESS_THAN_A_CHECKPOINT)
        phase = wait_for(lambda: (p := server.show(run.id)["phase"]) and p["phase"] == "waiting" and p, LIVE_S)
        assert "free" in phase["detail"]
        assert server.show(run.id)["state"] == "running"
        assert all(path.name <= "step-00000010" for path in complete_checkpoints(run.checkpoints))
        step = server.show(run.id)["step"]
        beat = read_beat(run.beat_file).count
        wait_for(lambda: read_beat(run.beat_file).count > beat, LIVE_S)  # it waits, and gives signs of life
        assert server.show(run.id)["step"] == step
        ballast.drop()
        wait_end(server, run, "completed")
        assert story(run) == ["started → completed"]
        assert [saved["step"] for saved in of_kind(run, "checkpoint")] == list(range(5, 41, 5))
        assert_same(server, run.id, undisturbed)


@pytest.mark.slow
def test_a_disk_without_room_for_an_event_is_waited_for(small_bench: FaultBench, undisturbed: Undisturbed) -> None:
    """The index and the log are on it, too."""
    with small_bench.serve() as server:
        run = small_bench.create(server, SLOW, config={"training": {"save_steps": None}})
        wait_step(server, run, 6)
        ballast = Ballast(small_bench.home.path)
        ballast.leave(0)
        seen = wait_until_still(run)
        beat = read_beat(run.beat_file).count
        wait_for(lambda: read_beat(run.beat_file).count > beat, LIVE_S)
        assert events_bytes(run) == seen
        ballast.drop()
        wait_end(server, run, "completed")
        assert story(run) == ["started → completed"]
        waiting = [told for told in of_kind(run, "phase") if told["phase"] == "waiting"]
        assert "free" in waiting[0]["detail"]
        assert_same(server, run.id, undisturbed)


def events_bytes(run: RunDirectory) -> int:
    return (run.path / "events.jsonl").stat().st_size


def wait_until_still(run: RunDirectory) -> int:
    """The size of the events, once it has been the same for the time of many steps."""
    looks: list[int] = []

    def look() -> bool:
        looks.append(events_bytes(run))
        return len(looks) > 200 and len(set(looks[-200:])) == 1

    wait_for(look, LIVE_S)
    return looks[-1]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_refused_by_name(bench: FaultBench, undisturbed: Undisturbed) -> None:
    with bench.serve() as server:
        run = bench.create(server, SLOW)
        wait_step(server, run, 11)
        post(server, run, "stop")
        wait_end(server, run, "stopped")
        *_, whole, newest = complete_checkpoints(run.checkpoints)
        flip_a_byte(newest / "model.safetensors")
        post(server, run, "resume", checkpoint=f"checkpoints/{newest.name}")
        reason = wait_end(server, run, "failed")["reason"]
        assert newest.name in reason
        assert "model.safetensors" in reason
        post(server, run, "resume")
        wait_end(server, run, "completed")
        assert story(run) == [
            "started → stopped",
            "resumed → damaged_checkpoint",
            "resumed → damaged_checkpoint",
            "damaged_checkpoint → completed",
        ]
        (receipt,) = of_kind(run, "receipt")
        assert receipt["checkpoint"] == f"checkpoints/{whole.name}"
        assert receipt["step"] >= 5
        told = [one for one in of_kind(run, "trouble") if one["failure"] == "damaged_checkpoint"]
        assert [one["action"] for one in told] == ["none", "restart"]
        assert all(newest.name in one["reason"] for one in told)
        assert_same(server, run.id, undisturbed)

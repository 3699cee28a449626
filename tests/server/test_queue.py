"""The order in which runs wait, what they are told, and who gets the GPUs."""

from pathlib import Path

import pytest
from support.clerk import Clerk, PaperGpus

from server.errors import ConflictError
from server.runs.dispatcher import RETRY_S
from server.runs.queue import slots_reason
from server.runs.view import view
from server.settings import Settings
from xoron_core.client import XoronClientError
from xoron_core.client.ordering import moved
from xoron_core.contract.api import PatchRun, QueueOrder, ResumeRun, RunCommand, StopRun
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.states import RunState

ONE_GPU = {"resources": {"device": "cuda"}}
TWO_GPUS = {"resources": {"gpus": 2}}


class TestOrder:
    def test_the_first_comes_first_and_the_others_are_told_why_they_wait(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            first, second, third = (clerk.create(name=name) for name in ("a", "b", "c"))
            clerk.tick()
            assert clerk.row(first.id).state is RunState.STARTING
            assert clerk.waiting() == [second.id, third.id]
            assert clerk.reason(second.id) == f"1 of 1 slot is taken by {first.id} (a)"
            assert clerk.reason(third.id) == f"next after {second.id} (b)"
            assert view(clerk.row(third.id)).reason == clerk.reason(third.id)
            waiting = clerk.row(third.id).waiting
            assert waiting is not None
            assert waiting.position == 2
            assert clerk.row(first.id).waiting is None

    def test_a_change_of_place_is_announced_once(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            runs = [clerk.create() for _ in range(3)]
            clerk.tick()
            told: list[str] = []
            clerk.index.on_change.append(lambda row: told.append(row.id))
            clerk.tick()
            assert told == []
            clerk.service.stop(runs[1].id, StopRun())
            clerk.tick()
            assert told.count(runs[2].id) == 1
            assert clerk.reason(runs[2].id).startswith("1 of 1 slot")

    def test_runs_exchange_their_places_and_the_others_stay(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            clerk.create()
            clerk.tick()
            a, b, c, d = (clerk.create(priority=1 if number == 0 else 0).id for number in range(4))
            clerk.service.reorder(QueueOrder(runs=[d, a]))
            assert clerk.waiting() == [d, b, c, a]
            assert (clerk.row(d).record.priority, clerk.row(a).record.priority) == (1, 0)
            assert {run_id: row.record.place for run_id, row in clerk.rebuilt().items() if run_id == d} == {
                d: clerk.home.run(d).record().place
            }

    def test_runs_that_share_a_place_can_be_told_apart(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            clerk.create()
            clerk.tick()
            for run in [clerk.create() for _ in range(4)]:
                run.write_record(run.record().model_copy(update={"place": 7.0}))
                clerk.row(run.id)
            a, b, c, d = clerk.waiting()
            clerk.service.reorder(QueueOrder(runs=[c, b]))
            assert clerk.waiting() == [a, c, b, d]

    def test_a_refused_order_changes_nothing(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            live = clerk.create().id
            clerk.tick()
            a, b = clerk.create().id, clerk.create().id
            with pytest.raises(ConflictError, match="starting"):
                clerk.service.reorder(QueueOrder(runs=[b, a, live]))
            with pytest.raises(ConfigError, match="no such run"):
                clerk.service.reorder(QueueOrder(runs=[b, a, "nope"]))
            with pytest.raises(ConfigError, match="twice"):
                clerk.service.reorder(QueueOrder(runs=[b, a, b]))
            assert clerk.waiting() == [a, b]

    def test_a_paused_run_comes_back_to_its_place_and_a_stopped_one_to_the_end(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            clerk.create()
            clerk.tick()
            a, b, c = (clerk.create().id for _ in range(3))
            clerk.service.pause(a, RunCommand())
            clerk.service.stop(b, StopRun())
            assert clerk.waiting() == [c]
            assert clerk.service.resume(a, ResumeRun()).state is RunState.QUEUED
            clerk.service.resume(b, ResumeRun())
            assert clerk.waiting() == [a, c, b]
            assert [clerk.row(run_id).attempt for run_id in (a, b)] == [1, 1]

    def test_a_raised_priority_overtakes(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            clerk.create()
            clerk.tick()
            a, b = clerk.create().id, clerk.create().id
            clerk.service.patch(b, PatchRun(priority=2))
            assert clerk.waiting() == [b, a]

    def test_an_attempt_that_never_began_keeps_its_number(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            run = clerk.create()
            clerk.tick()
            keeper = clerk.launch.keepers[run.id]
            keeper.runs()
            keeper.ends(RunState.COMPLETED)
            clerk.row(run.id)
            longer = {"training": {"max_steps": 9999}}
            assert clerk.service.resume(run.id, ResumeRun(config=longer)).attempt == 2
            assert clerk.service.pause(run.id, RunCommand()).state is RunState.PAUSED
            assert view(clerk.row(run.id)).reason == "paused while no process was at work"
            assert clerk.service.resume(run.id, ResumeRun()).attempt == 2
            clerk.tick()
            assert run.attempt(2).cause == "resumed"
            assert run.attempt(2).config["training"]["max_steps"] == 9999
            assert clerk.row(run.id).attempt == 2

    def test_a_full_disk_keeps_a_run_waiting(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            run = clerk.create()
            config = run.config_file.read_text()
            run.config_file.write_text(config.replace("min_free_disk_gib: 0.0", "min_free_disk_gib: 100000000.0"))
            other = clerk.create()
            clerk.tick()
            assert "waits for room on the disk" in clerk.reason(run.id)
            assert clerk.row(other.id).state is RunState.STARTING

    def test_a_run_that_cannot_be_read_lets_the_others_pass(self, tmp_path: Path) -> None:
        with Clerk(tmp_path) as clerk:
            run, other = clerk.create(), clerk.create()
            run.config_file.write_text("{")
            clerk.tick()
            assert "cannot be read" in clerk.reason(run.id)
            assert clerk.row(other.id).state is RunState.STARTING


def test_many_slots_are_told_in_few_words() -> None:
    told = slots_reason({f"r{number}": f"n{number}" for number in range(6)}, 6)
    assert told == "6 of 6 slots are taken by r0 (n0), r1 (n1), 4 others"


class TestGpus:
    def test_no_gpu_is_leased_twice_and_who_has_the_others_is_told(self, tmp_path: Path) -> None:
        with Clerk(tmp_path, max_runs=9, gpus=PaperGpus("GPU-a", "GPU-b", "GPU-c")) as clerk:
            first, second = clerk.create(TWO_GPUS), clerk.create(TWO_GPUS)
            held = clerk.leases.take(["GPU-c"], 1, "somebody")
            assert held is not None
            leased = clerk.hold_leases()
            clerk.tick()
            assert [lease.uuid for lease in leased[first.id]] == ["GPU-a", "GPU-b"]
            told = f"waits for 2 GPUs; 0 of 3 are free (others: {first.id}, another program's lease)"
            assert clerk.reason(second.id) == told
            assert [(gpu.run, gpu.is_leased) for gpu in clerk.pool.shown()] == [
                (first.id, True),
                (first.id, True),
                (None, True),
            ]
            held[0].release()
            clerk.tick()
            assert "1 of 3 is free" in clerk.reason(second.id)
            clerk.end(first.id, leased)
            clerk.tick()
            assert [lease.uuid for lease in leased[second.id]] == ["GPU-a", "GPU-b"]
            clerk.end(second.id, leased)
            assert not any(gpu.is_leased for gpu in clerk.pool.shown())

    def test_who_waits_for_gpus_is_passed_by_runs_that_want_none_only(self, tmp_path: Path) -> None:
        with Clerk(tmp_path, max_runs=9, gpus=PaperGpus("GPU-a", "GPU-b")) as clerk:
            leased = clerk.hold_leases()
            small = clerk.create(ONE_GPU)
            clerk.tick()
            large, third, cpu = clerk.create(TWO_GPUS), clerk.create(ONE_GPU), clerk.create()
            clerk.tick()
            assert clerk.reason(large.id) == f"waits for 2 GPUs; 1 of 2 is free (others: {small.id})"
            assert clerk.reason(third.id).startswith(f"next after {large.id}")
            assert clerk.row(cpu.id).state is RunState.STARTING
            assert leased[cpu.id] == []
            clerk.end(small.id, leased)
            clerk.tick()
            assert len(leased[large.id]) == 2
            assert clerk.row(third.id).state is RunState.QUEUED
            clerk.end(large.id, leased)
            clerk.tick()
            assert len(leased[third.id]) == 1
            clerk.end(third.id, leased)

    def test_a_launch_that_fails_gives_the_gpus_back(self, tmp_path: Path) -> None:
        with Clerk(tmp_path, gpus=PaperGpus("GPU-a")) as clerk:
            clerk.create({**ONE_GPU, "trouble": {"max_interruptions": 0, "min_free_disk_gib": 0.0}})
            clerk.launch.fails = 1
            clerk.tick()
            assert [gpu.is_leased for gpu in clerk.pool.shown()] == [False]

    def test_leases_that_cannot_be_written_keep_no_other_run_waiting(self, tmp_path: Path) -> None:
        with Clerk(tmp_path, max_runs=9, gpus=PaperGpus("GPU-a")) as clerk:
            leased = clerk.hold_leases()
            clerk.leases.folder.write_text("not a folder")
            run, cpu = clerk.create(ONE_GPU), clerk.create()
            clerk.tick()
            assert clerk.reason(run.id).startswith("could not be begun, and is tried again: [Errno")
            assert clerk.row(cpu.id).state is RunState.STARTING
            clerk.leases.folder.unlink()
            clerk.now_s += RETRY_S + 1
            clerk.tick()
            assert clerk.row(run.id).state is RunState.STARTING
            clerk.end(run.id, leased)

    def test_a_lost_gpu_is_given_to_nobody(self, tmp_path: Path) -> None:
        gpus = PaperGpus("GPU-a")
        with Clerk(tmp_path, gpus=gpus) as clerk:
            gpus.faults["GPU-a"] = "Xid 79: GPU has fallen off the bus"
            run = clerk.create(ONE_GPU)
            clerk.tick()
            assert clerk.reason(run.id) == (
                "waits for 1 GPU; 0 of 1 are free (others: GPU GPU-a: Xid 79: GPU has fallen off the bus)"
            )

    @pytest.mark.parametrize(("uuids", "config"), [((), ONE_GPU), (("GPU-a",), TWO_GPUS)])
    def test_more_gpus_than_there_are_are_refused(
        self, tmp_path: Path, uuids: tuple[str, ...], config: dict[str, object]
    ) -> None:
        with Clerk(tmp_path, gpus=PaperGpus(*uuids)) as clerk:
            with pytest.raises(ConfigError) as refusal:
                clerk.create(config)
            assert [one.field for one in refusal.value.problems] == ["resources.gpus"]
            run = clerk.create()
            clerk.service.stop(run.id, StopRun())
            with pytest.raises(ConfigError, match=r"resources\.gpus"):
                clerk.service.resume(run.id, ResumeRun(config={"resources": {"device": "auto", "gpus": 2}}))
            assert clerk.row(run.id).state is RunState.STOPPED

    def test_auto_takes_a_gpu_where_there_is_one(self, tmp_path: Path) -> None:
        with Clerk(tmp_path, gpus=PaperGpus("GPU-a")) as clerk:
            leased = clerk.hold_leases()
            run = clerk.create({"resources": {"device": "auto"}})
            clerk.tick()
            assert [lease.uuid for lease in leased[run.id]] == ["GPU-a"]
            clerk.end(run.id, leased)


def test_the_gpus_come_from_either_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XORON_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert Settings.read(home=tmp_path).gpus is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert Settings.read(home=tmp_path).gpus == "1"
    monkeypatch.setenv("XORON_GPUS", "0,2")
    assert Settings.read(home=tmp_path).gpus == "0,2"
    assert Settings.read(home=tmp_path, gpus="3").gpus == "3"


class TestMoved:
    def test_only_the_stretch_that_changes_is_named(self) -> None:
        queue = ["a", "b", "c", "d"]
        assert moved(queue, "d", "b") == ["d", "b", "c"]
        assert moved(queue, "a", None) == ["b", "c", "d", "a"]
        assert moved(queue, "a", "c") == ["b", "a"]
        assert moved(queue, "c", "a") == ["c", "a", "b"]
        assert moved(queue, "b", "b") == ["b"]

    @pytest.mark.parametrize(("run", "before"), [("x", "a"), ("a", "x"), ("x", None)])
    def test_a_run_that_does_not_wait_is_named(self, run: str, before: str | None) -> None:
        with pytest.raises(XoronClientError, match="run x does not wait"):
            moved(["a", "b"], run, before)

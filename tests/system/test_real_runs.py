"""Server, keeper and trainer together, as users have them: nothing is lost, whoever dies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.runs import events, wait_for
from support.serving import RunningServer, end_keepers, server_process
from support.tiny import tiny_corpus, tiny_overrides

from xoron_core.contract.home import Home
from xoron_core.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.timeout(300)

STEPS = 30
LIVE_S = 90.0
NOT_REPEATED = ("speed/", "memory/")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    end_keepers(Home(tmp_path / "home"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tiny_corpus(tmp_path / "corpus")


def create(server: RunningServer, corpus: Path, **training: Any) -> str:
    return str(server.create(tiny_overrides(corpus, **{"max_steps": STEPS, **training}))["id"])


def wait_step(server: RunningServer, run_id: str, step: int) -> dict[str, Any]:
    return wait_for(lambda: (row := server.show(run_id))["step"] >= step and row, LIVE_S)


def curves(server: RunningServer, run_id: str) -> dict[str, Any]:
    """Every curve of the run that a repetition must repeat."""
    keys = server.api.get(f"/runs/{run_id}/series").json()["keys"]
    asked = ",".join(key for key in keys if not key.startswith(NOT_REPEATED))
    found = server.api.get(f"/runs/{run_id}/series", params={"keys": asked, "points": 10_000}).json()["series"]
    return {name: (curve["x"], curve["y"]) for name, curve in found.items()}


def processes_of(server: RunningServer, run_id: str) -> list[int]:
    """Live processes that carry the run's mark."""
    mark = f"XORON_RUN_ID={run_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # it ended while we looked
            continue
    return found


def pid_of_trainer(server: RunningServer, run_id: str) -> int:
    keeper = wait_for(lambda: server.home.run(run_id).keeper(), LIVE_S)
    assert keeper.trainer is not None
    return keeper.trainer.pid


@pytest.mark.slow
def test_stopped_and_resumed_it_equals_a_run_never_stopped(home: Path, corpus: Path) -> None:
    with server_process(home) as served:
        server = served.server
        undisturbed = create(server, corpus, eval_steps=7)
        server.wait_state(undisturbed, "completed", timeout_s=LIVE_S)
        run_id = create(server, corpus, eval_steps=7)
        for step in (4, 12):
            wait_step(server, run_id, step)
            assert server.api.post(f"/runs/{run_id}/stop").status_code == 202
            stopped = server.wait_state(run_id, "stopped", timeout_s=10)
            assert processes_of(server, run_id) == []
            assert server.api.get(f"/runs/{run_id}/checkpoints").json()["items"][-1]["step"] == stopped["step"]
            assert server.api.post(f"/runs/{run_id}/resume").status_code == 202
            wait_for(lambda: server.show(run_id)["state"] != "queued", LIVE_S)
        server.wait_state(run_id, "completed", timeout_s=LIVE_S)
        assert curves(server, run_id) == curves(server, undisturbed)
        mine, theirs = (read_checkpoint(server.home.run(run).checkpoint_dir(STEPS)) for run in (run_id, undisturbed))
        assert all((mine.tensors["model"][key] == value).all() for key, value in theirs.tensors["model"].items())


def test_the_server_is_killed_and_its_index_deleted_and_the_curve_has_no_gap(home: Path, corpus: Path) -> None:
    with server_process(home) as served:
        run_id = create(served.server, corpus, max_steps=200)
        wait_step(served.server, run_id, 3)
        trainer = pid_of_trainer(served.server, run_id)
        served.kill()
    with server_process(home) as served:
        server = served.server
        assert server.show(run_id)["state"] == "running"
        assert pid_of_trainer(server, run_id) == trainer
        wait_step(server, run_id, server.show(run_id)["step"] + 2)
        assert server.api.post(f"/runs/{run_id}/stop").status_code == 202
        last = server.wait_state(run_id, "stopped", timeout_s=20)["step"]
        before = curves(server, run_id)
        assert before["train/loss"][0] == list(range(1, last + 1))
    for path in home.glob("index.sqlite3*"):
        path.unlink()
    with server_process(home) as served:
        assert served.server.show(run_id)["state"] == "stopped"
        assert curves(served.server, run_id) == before
        numbers = [event["seq"] for event in events(Home(home).run(run_id))]
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
def test_a_run_that_failed_is_resumed_by_a_person_from_its_checkpoint(home: Path, corpus: Path) -> None:
    with server_process(home) as served:
        server = served.server
        undisturbed = create(server, corpus)
        server.wait_state(undisturbed, "completed", timeout_s=LIVE_S)
        config = tiny_overrides(corpus, max_steps=STEPS, save_steps=5)
        run_id = server.create({**config, "trouble": {"max_restarts": 0}})["id"]
        wait_step(server, run_id, 7)
        os.kill(pid_of_trainer(server, run_id), signal.SIGKILL)
        failed = server.wait_state(run_id, "failed", timeout_s=LIVE_S)
        assert "SIGKILL" in failed["reason"]
        assert server.api.post(f"/runs/{run_id}/resume").status_code == 202
        server.wait_state(run_id, "completed", timeout_s=LIVE_S)
        receipt = next(event for event in events(server.home.run(run_id)) if event["kind"] == "receipt")
        assert receipt["step"] % 5 == 0
        assert curves(server, run_id) == curves(server, undisturbed)


def test_a_reason_to_fail_reaches_the_api(home: Path, corpus: Path) -> None:
    with server_process(home) as served:
        server = served.server
        first = create(server, corpus)
        wait_step(server, first, 1)
        queued = create(server, corpus)  # waits: one run at a time
        (corpus / "text" / "train.jsonl").unlink()
        failed = server.wait_state(queued, "failed", timeout_s=LIVE_S)
        assert "source 'thoughts' has no file" in failed["reason"]
        log = server.api.get(f"/runs/{queued}/logs", params={"tail": 50}).json()["text"]
        assert "Traceback" in log
        assert server.show(first)["state"] == "completed"
        refused = server.api.post("/runs", json={"preset": "demo", "config": tiny_overrides(corpus)})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "data.sources.0.path"


@pytest.mark.slow
def test_pause_frees_the_place_and_cancel_ends_for_good(home: Path, corpus: Path) -> None:
    with server_process(home) as served:
        server = served.server
        run_id = create(server, corpus, max_steps=100_000)
        wait_step(server, run_id, 2)
        assert server.api.post(f"/runs/{run_id}/pause").status_code == 202
        paused = server.wait_state(run_id, "paused", timeout_s=20)
        other = create(server, corpus, max_steps=2)
        server.wait_state(other, "completed", timeout_s=LIVE_S)
        assert server.api.post(f"/runs/{run_id}/resume").status_code == 202
        wait_step(server, run_id, paused["step"] + 1)
        assert server.api.post(f"/runs/{run_id}/cancel").status_code == 202
        server.wait_state(run_id, "cancelled", timeout_s=20)
        assert server.api.post(f"/runs/{run_id}/resume").status_code == 409

"""Requests that come twice at one moment, and reasons that must be seen at once."""

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from support.course import of_kind, story
from support.fault_bench import LIVE_S, FaultBench, quick_config, wait_end
from support.faulty_trainer import Fault
from support.serving import RunningServer
from websockets.sync.client import connect

from xoron_core.contract import clock

pytestmark = pytest.mark.timeout(600)

REASON = "the loss went to the moon"
SEEN_S = 3.0


def test_two_posts_at_one_moment_with_one_key_make_one_run(bench: FaultBench) -> None:
    with bench.serve_apart() as served:
        server = served.server
        for number in range(10):
            answers = create_twice(server, f"key {number}")
            assert sorted(code for code, _ in answers) == [200, 201], answers
            assert len({run_id for _, run_id in answers}) == 1
        rows = server.api.get("/runs").json()["items"]
        assert len(rows) == len(bench.home.run_directories()) == 10
        for row in rows:
            server.api.post(f"/runs/{row['id']}/cancel")
        for row in rows:
            server.wait_state(row["id"], "cancelled", timeout_s=LIVE_S)


def create_twice(server: RunningServer, key: str) -> list[tuple[int, str]]:
    """The same request from two clients at one moment: statuses and runs."""
    answers: list[tuple[int, str]] = []
    barrier = threading.Barrier(2)

    def create() -> None:
        body = {"preset": "demo", "config": quick_config(), "name": key}
        barrier.wait()
        answer = server.api.post("/runs", json=body, headers={"Idempotency-Key": key})
        answers.append((answer.status_code, answer.json()["id"]))

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_failure_in_the_first_step_is_seen_within_three_seconds(bench: FaultBench) -> None:
    """Of its moment, over the socket that a page listens to; it is not tried again."""
    with bench.serve() as server, connect(f"{server.ws}/stream", max_size=None, proxy=None) as socket:
        run = bench.create(server, Fault("crash", step=1, attempts=(), text=REASON))
        row = failed_row(socket, run.id)
        seen = datetime.now(UTC)
        assert REASON in row["reason"]
        raised = next(told for told in of_kind(run, "alert") if REASON in told["message"])
        assert (seen - clock.parse_time(raised["time"])).total_seconds() < SEEN_S
        wait_end(server, run, "failed")
        assert story(run) == ["started → crash"]
        assert server.show(run.id)["reason"] == row["reason"]


def failed_row(socket: Any, run_id: str) -> dict[str, Any]:
    """The first row of that run that says `failed`."""
    deadline = time.monotonic() + LIVE_S
    while (left_s := deadline - time.monotonic()) > 0:
        frame = json.loads(socket.recv(timeout=left_s))
        if frame["type"] == "run" and frame["run"]["id"] == run_id and frame["run"]["state"] == "failed":
            return dict(frame["run"])
    raise TimeoutError(f"run {run_id} has not failed in {LIVE_S} s")

"""The typed client against a real server with real keepers and a scripted trainer."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.serving import RunningServer, StartServer

from server.runs.dispatcher import KEEPER_START_S
from xoron_core.client import (
    WaitEndedError,
    WaitTimeoutError,
    XoronApiError,
    XoronClient,
    XoronClientError,
    XoronConnectionError,
)
from xoron_core.client import client as client_module
from xoron_core.contract.api import CreateRun, PatchRun, Run
from xoron_core.contract.errors import XoronError
from xoron_core.contract.states import RunState

SHORT = {"training": {"max_steps": 5}}


def connect(server: RunningServer, token: str | None = None) -> XoronClient:
    return XoronClient(f"http://127.0.0.1:{server.port}/", token)


def test_a_run_from_creation_to_removal(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        body = CreateRun(preset="demo", name="one", tags=["t"], config=SHORT)
        run = client.create_run(body, idempotency_key="k")
        assert client.create_run(body, idempotency_key="k").id == run.id
        assert client.wait(run.id, "step:2", timeout_s=30).step >= 2
        ended = client.wait(run.id, timeout_s=30)
        assert (ended.state, ended.step) == (RunState.COMPLETED, 5)
        assert [one.id for one in client.list_runs(states=[RunState.COMPLETED], tags=["t"]).items] == [run.id]
        assert client.list_runs(states=[RunState.FAILED]).items == []
        assert client.patch_run(run.id, PatchRun(name="two")).name == "two"
        assert client.config(run.id)["training"]["max_steps"] == 5
        assert "text" in client.metrics(run.id).modalities
        series = client.series(run.id, ["text/loss"])
        assert len(series.series["text/loss"].x) == 5
        assert client.events(run.id, kinds=["state"]).items[0]["state"] == "starting"
        assert client.checkpoints(run.id).items[-1].step == 5
        assert client.logs(run.id, tail=5).end >= 0
        assert client.samples(run.id).items is not None
        client.delete_run(run.id)
        with pytest.raises(XoronApiError) as gone:
            client.run(run.id)
        assert gone.value.status == 404
        assert client.restore_run(run.id).id == run.id


def test_a_run_is_paused_resumed_and_stopped(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        run = client.create_run(CreateRun(preset="demo"))
        client.wait(run.id, "running", timeout_s=30)
        assert client.pause(run.id, expected_attempt=1).state in {RunState.PAUSING, RunState.PAUSED}
        running_server.wait_state(run.id, "paused")
        assert client.resume(run.id).attempt == 2
        client.wait(run.id, "running", timeout_s=30)
        with pytest.raises(XoronApiError, match="attempt 2"):
            client.stop(run.id, expected_attempt=1)
        client.stop(run.id)
        assert client.wait(run.id, timeout_s=30).state is RunState.STOPPED
        with pytest.raises(WaitEndedError, match=r"stopped at step .*, before step:9999"):
            client.wait(run.id, "step:9999", timeout_s=30)
        with pytest.raises(XoronApiError, match="stopped") as refused:
            client.cancel(run.id)
        assert refused.value.status == 409


def test_a_wait_has_an_end(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        run = client.create_run(CreateRun(preset="demo"))
        with pytest.raises(WaitTimeoutError, match=r"not ended after 0\.3 s; it is") as caught:
            client.wait(run.id, "ended", timeout_s=0.3)
        assert caught.value.run is not None
        with pytest.raises(XoronClientError, match="cannot wait until 'forever'"):
            client.wait(run.id, "forever")
        client.cancel(run.id)
        assert client.wait(run.id, timeout_s=30).state is RunState.CANCELLED


def test_the_stream_tells_everything_and_ends(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        run = client.create_run(CreateRun(preset="demo", config=SHORT))
        frames = list(client.stream(run.id))
        seqs = [event["seq"] for frame in frames if frame["type"] == "events" for event in frame["events"]]
        assert seqs == list(range(1, len(seqs) + 1))
        assert frames[-1]["type"] == "end"
        last = seqs[-1]
        again = [frame for frame in client.stream(run.id, after=last - 2) if frame["type"] == "events"]
        assert [event["seq"] for frame in again for event in frame["events"]] == [last - 1, last]
        with pytest.raises(XoronApiError, match="no run") as refused:
            list(client.stream("nothing"))
        assert refused.value.status == 404


def test_errors_carry_the_servers_problem(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        with pytest.raises(XoronApiError, match="did you mean 'learning_rate'") as caught:
            client.create_run(CreateRun(preset="demo", config={"training": {"learning_rat": 1.0}}))
        assert isinstance(caught.value, XoronError)
        assert caught.value.status == 422
        assert caught.value.problem.errors[0].field == "training.learning_rat"
        for odd in ("../system", "a/b", "a?b", "%2e"):
            with pytest.raises(XoronApiError) as missing:
                client.run(odd)
            assert missing.value.status == 404
        assert client.validate(CreateRun(preset="demo")).valid
        assert not client.validate(CreateRun(preset="dmo")).valid
        assert [preset.name for preset in client.presets().items] == ["base", "demo", "large", "small"]
        assert client.schema().contract_version == 1
        assert client.system().max_runs == 1
        assert client.is_ready()


def test_a_token_opens_the_door(start_server: StartServer) -> None:
    server = start_server(token="a long secret")
    with connect(server) as stranger, pytest.raises(XoronApiError) as refused:
        stranger.list_runs()
    assert refused.value.status == 401
    with connect(server, "a long secret") as client:
        assert client.list_runs().items == []
        run = client.create_run(CreateRun(preset="demo", config=SHORT))
        assert list(client.stream(run.id))[-1]["type"] == "end"


def test_no_server_says_what_to_do(tmp_path: Path) -> None:
    with XoronClient("http://127.0.0.1:9") as client:
        with pytest.raises(XoronConnectionError, match="xoron serve"):
            client.list_runs()
        with pytest.raises(XoronConnectionError):
            list(client.stream("x"))
        with pytest.raises(WaitTimeoutError, match="cannot reach"):
            client.wait("x", timeout_s=0.2)
        assert not client.is_ready()


@pytest.mark.parametrize("url", ["http://[", "nonsense", "", "ftp://x", "http://:80", "http://x:99999"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(XoronConnectionError, match="not an address"):
        XoronClient(url)


def test_the_queue_is_shown_and_reordered(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        live = client.create_run(CreateRun(preset="demo"))
        client.wait(live.id, "running", timeout_s=30)
        first, second = (client.create_run(CreateRun(preset="demo")).id for _ in range(2))
        assert [run.id for run in client.queue().items] == [first, second]
        assert [run.id for run in client.reorder([second, first]).items] == [second, first]
        assert client.queue().live == [live.id]
        with pytest.raises(XoronApiError, match="running") as refusal:
            client.reorder([first, live.id])
        assert refusal.value.status == 409


def test_a_run_that_is_resumed_by_itself_has_not_ended(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        body = CreateRun(preset="demo", config={"training": {"max_steps": 40}, "trouble": {"restart_delay_s": 0.0}})
        run = client.create_run(body)
        client.wait(run.id, "step:3", timeout_s=30)
        keeper = running_server.home.run(run.id).keeper()
        assert keeper is not None
        os.kill(keeper.keeper.pid, signal.SIGKILL)
        ended = client.wait(run.id, timeout_s=60)
        assert (ended.state, ended.attempt, ended.step) == (RunState.COMPLETED, 2, 40)


@contextmanager
def script(*answers: Run | int, is_ready: bool = True) -> Iterator[str]:
    """The address of a server that answers calls for a run with these, one after another and the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer: Run | int = 200 if is_ready else 503
            if "/runs/" in self.path:
                answer = left.pop(0) if len(left) > 1 else left[0]
            body = answer.model_dump_json().encode() if isinstance(answer, Run) else b""
            self.send_response(200 if isinstance(answer, Run) else answer)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_index_that_cannot_be_used_for_a_while_is_waited_out(running_server: RunningServer) -> None:
    with connect(running_server) as client:
        run = client.create_run(CreateRun(preset="demo", config=SHORT))
        ended = client.wait(run.id, timeout_s=30)
    with script(503, run, 503, 503, ended) as url, XoronClient(url) as client:
        assert client.wait(run.id).state is RunState.COMPLETED
    with script(503) as url, XoronClient(url) as client, pytest.raises(WaitTimeoutError, match="503"):
        client.wait(run.id, timeout_s=0.3)
    with script(404) as url, XoronClient(url) as client, pytest.raises(XoronApiError, match="404"):
        client.wait(run.id)


def test_an_interrupted_run_has_ended_when_a_ready_server_had_its_time(
    running_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client_module.SETTLE_S > KEEPER_START_S
    monkeypatch.setattr(client_module, "SETTLE_S", 0.2)
    with connect(running_server) as client:
        run = client.create_run(CreateRun(preset="demo", config=SHORT))
    interrupted = run.model_copy(update={"state": RunState.INTERRUPTED})
    with script(interrupted) as url, XoronClient(url) as client:
        assert client.wait(run.id, timeout_s=30).state is RunState.INTERRUPTED
    with script(interrupted, is_ready=False) as url, XoronClient(url) as client, pytest.raises(WaitTimeoutError):
        client.wait(run.id, timeout_s=1)

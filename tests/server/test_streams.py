"""WebSockets: replay and live without a gap, slow clients, the page's socket."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import SO_RCVBUF, SOL_SOCKET
from socket import socket as Socket
from typing import Any

import pytest
from support.postgresql import ON_BOTH
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from xoron_core.contract.events import LogEvent
from xoron_core.contract.states import RunState


@contextmanager
def stream(server: RunningServer, path: str, **options: Any) -> Iterator[ClientConnection]:
    with connect(server.ws + path, proxy=None, max_size=None, **options) as socket:
        yield socket


def frames_until(
    socket: ClientConnection, is_last: Callable[[dict[str, Any]], bool], timeout_s: float = 20
) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while not frames or not is_last(frames[-1]):
        frames.append(json.loads(socket.recv(timeout=timeout_s)))
    return frames


def seqs(frames: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for frame in frames if frame["type"] == "events" for event in frame["events"]]


def has(seq: int) -> Callable[[dict[str, Any]], bool]:
    return lambda frame: frame["type"] == "events" and frame["events"][-1]["seq"] >= seq


@pytest.mark.parametrize("after", [0, 1, 700])
def test_replay_and_live_join_without_gap_or_duplicate(running_server: RunningServer, after: int) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 1000))
        running_server.wait_seq(run.id, 1)
        writing = threading.Thread(target=lambda: run.steps(range(1000, 4000)))
        writing.start()
        with stream(running_server, f"/runs/{run.id}/stream?after={after}") as socket:
            frames = frames_until(socket, has(4000))
            writing.join()
            end = run.end()
            frames += frames_until(socket, lambda frame: frame["type"] == "end")
            assert seqs(frames) == list(range(after + 1, end + 1))
            assert frames[-1] == {"type": "end", "run": run.id}
            with pytest.raises(ConnectionClosedOK):
                socket.recv(timeout=5)


def test_an_ended_run_is_replayed_and_ends(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 10))
        last = run.end()
    running_server.wait_state(run.id, "completed")
    with stream(running_server, f"/runs/{run.id}/stream?after=0") as socket:
        frames = frames_until(socket, lambda frame: frame["type"] == "end")
    assert seqs(frames) == list(range(1, last + 1))


@ON_BOTH
def test_what_was_streamed_is_in_the_index(running_server: RunningServer) -> None:
    with (
        ScriptedRun(running_server.home) as run,
        stream_of(running_server, run) as socket,
    ):
        for step in range(1, 20):
            seq = run.steps([step])
            frames_until(socket, has(seq))
            answer = running_server.api.get(f"/runs/{run.id}/series", params={"keys": "text/loss"}).json()
            assert answer["last_seq"] >= seq
            assert answer["series"]["text/loss"]["x"][-1] == step


@contextmanager
def stream_of(server: RunningServer, run: ScriptedRun) -> Iterator[ClientConnection]:
    """A stream that has joined the live part, so that what comes has gone through the index."""
    server.wait_seq(run.id, 1)
    with stream(server, f"/runs/{run.id}/stream?after=0") as socket:
        frames_until(socket, has(1))
        seq = run.say(LogEvent(level="info", message="joined?"))
        frames_until(socket, has(seq))
        server.wait_seq(run.id, seq)
        yield socket


def socket_with_small_buffer(port: int) -> Socket:
    plain = Socket()
    plain.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 16)
    plain.connect(("127.0.0.1", port))
    return plain


def test_a_slow_client_is_reset_and_goes_on(start_server: StartServer) -> None:
    server = start_server(ring_bytes=200_000)
    with ScriptedRun(server.home) as run:
        server.wait_seq(run.id, 1)
        small = socket_with_small_buffer(server.port)
        with stream(server, f"/runs/{run.id}/stream?after=0", max_queue=1, sock=small) as socket:
            frames_until(socket, has(1))
            for _ in range(20):  # by then it has found the end of what is on disk: a replay never drops anything
                server.show(run.id)
            for _ in range(150):  # more than socket buffers and ring hold, and not to be compressed
                seq = run.say(LogEvent(level="info", message=random.randbytes(50_000).hex()))
            server.wait_seq(run.id, seq, timeout_s=60)
            frames = frames_until(socket, lambda frame: frame["type"] == "reset")
            assert len(seqs(frames)) < 150
            last = run.end()
            frames += frames_until(socket, lambda frame: frame["type"] == "end")
    place = 1
    for frame in frames:
        if frame["type"] == "reset":
            assert place < frame["after"] <= last
            place = frame["after"]
        for seq in seqs([frame]):
            assert seq == place + 1
            place = seq
    assert place == last


def test_one_socket_serves_a_page(running_server: RunningServer) -> None:
    with stream(running_server, "/stream") as socket, ScriptedRun(running_server.home, name="one") as one:
        frames = frames_until(socket, lambda frame: frame["type"] == "run")
        assert frames[-1]["run"]["id"] == one.id
        socket.send(json.dumps({"subscribe": {"run": one.id, "after": 0}}))
        frames_until(socket, has(1))
        last = one.steps(range(1, 5))
        assert seqs(frames_until(socket, has(last)))[-1] == last
        one.end(RunState.COMPLETED)
        frames = frames_until(socket, lambda frame: frame["type"] == "end")
        rows = [frame["run"] for frame in frames if frame["type"] == "run"]
        assert rows[-1]["state"] == "completed"
        one.begin()
        again = one.steps(range(1, 5))
        frames_until(socket, lambda frame: frame["type"] == "run" and frame["run"]["last_seq"] >= again)
        socket.send(json.dumps({"subscribe": {"run": one.id, "after": last + 1}}))
        assert seqs(frames_until(socket, has(again))) == list(range(last + 2, again + 1))
        one.end(RunState.COMPLETED)
        frames_until(socket, lambda frame: frame["type"] == "end")
        assert running_server.api.delete(f"/runs/{one.id}").status_code == 204
        frames = frames_until(socket, lambda frame: frame["type"] == "removed")
        assert frames[-1]["run"] == one.id


def test_unsubscribed_runs_are_silent_and_subscribing_again_goes_on(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run, ScriptedRun(running_server.home) as other:
        for one in (run, other):
            running_server.wait_seq(one.id, 1)
        with stream(running_server, "/stream") as socket:
            socket.send(json.dumps({"subscribe": {"run": run.id, "after": 0}}))
            frames_until(socket, has(1))
            socket.send(json.dumps({"unsubscribe": run.id, "subscribe": {"run": other.id, "after": 0}}))
            frames_until(socket, has(1))
            run.steps(range(1, 5))
            last = other.steps(range(1, 5))
            frames = frames_until(socket, has(last))
            assert {frame["run"] for frame in frames if frame["type"] == "events"} == {other.id}
            socket.send(json.dumps({"subscribe": {"run": run.id, "after": 2}}))
            frames = frames_until(socket, lambda frame: frame.get("run") == run.id and has(5)(frame))
            assert [seq for frame in frames if frame.get("run") == run.id for seq in seqs([frame])] == [3, 4, 5]


def test_an_unknown_run_is_refused(running_server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as refusal, stream(running_server, "/runs/nope/stream"):
        pass
    assert refusal.value.response.status_code == 404
    with stream(running_server, "/stream") as socket:
        socket.send(json.dumps({"subscribe": {"run": "nope"}}))
        assert frames_until(socket, lambda _: True) == [{"type": "removed", "run": "nope"}]


@pytest.mark.parametrize(
    "nonsense", ["nonsense", b"nonsense", json.dumps({"subscribe": {"run": "x", "after": 10**30}})]
)
def test_a_message_that_no_page_sends_closes_the_socket(
    running_server: RunningServer, nonsense: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with stream(running_server, "/stream") as socket:
        socket.send(nonsense)
        wait_for(lambda: _is_closed(socket))
        assert socket.close_code == 1008
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def _is_closed(socket: ClientConnection) -> bool:
    try:
        socket.recv(timeout=0.1)
    except TimeoutError:
        return False
    except ConnectionClosed:
        return True
    return False

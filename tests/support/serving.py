"""Real servers for tests: in a thread, with a scripted trainer, or as a process of their own."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from server.app import create_app
from server.gpus.inventory import Inventory
from server.runs.dispatcher import Launch
from server.runs.launchers.local import launch
from server.settings import Settings
from support.runs import wait_for
from xoron_core.contract.home import Home

START_S = 30.0


@dataclass
class RunningServer:
    """A server that answers: `api` is a client below `/api/v1`, `root` one at the top."""

    home: Home
    port: int
    api: httpx.Client
    root: httpx.Client

    @property
    def ws(self) -> str:
        """Where WebSockets begin."""
        return f"ws://127.0.0.1:{self.port}/api/v1"

    def create(self, config: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
        """Create a run of the `demo` preset."""
        response = self.api.post("/runs", json={"preset": "demo", "config": config or {}, **body})
        assert response.status_code == 201, response.text
        return dict(response.json())

    def show(self, run_id: str) -> dict[str, Any]:
        """The run's row."""
        response = self.api.get(f"/runs/{run_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def wait_state(self, run_id: str, *states: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The run's row, once it is in one of these states."""
        with contextlib.suppress(TimeoutError):
            return wait_for(lambda: (row := self._row(run_id)).get("state") in states and row, timeout_s)
        raise TimeoutError(f"not {' or '.join(states)} in {timeout_s} s: {self._row(run_id)}")

    def queue(self) -> dict[str, Any]:
        """The queue, once every run in it was told why it waits."""

        def told() -> dict[str, Any] | None:
            queue = dict(self.api.get("/queue").json())
            return queue if all(run["waiting"] for run in queue["items"]) else None

        return wait_for(told)

    def wait_seq(self, run_id: str, seq: int, timeout_s: float = 20.0) -> dict[str, Any]:
        """The run's row, once the index has event `seq`."""
        return wait_for(lambda: (row := self._row(run_id)).get("last_seq", 0) >= seq and row, timeout_s)

    def _row(self, run_id: str) -> dict[str, Any]:
        """The run's row; empty before the server has seen its directory."""
        response = self.api.get(f"/runs/{run_id}")
        return dict(response.json()) if response.status_code == 200 else {}


def scripted_launch(pause_s: float = 0.02) -> Launch:
    """Real keepers whose trainer is `scripted_trainer.py`."""
    script = str(Path(__file__).with_name("scripted_trainer.py"))
    return functools.partial(launch, trainer=[sys.executable, script, str(pause_s)])


@contextlib.contextmanager
def server_in_thread(
    home: Path,
    *,
    launch: Launch | None = None,
    inventory: Inventory | None = None,
    ring_bytes: int = 4 * 2**20,
    **settings: Any,
) -> Iterator[RunningServer]:
    """Serve `home` from a thread of this process; keepers that still run at the end are ended."""
    settings = {"host": "127.0.0.1", "port": 0, "token": None, **settings}
    app = create_app(
        Settings(home=home, **settings),
        launch=launch or scripted_launch(),
        inventory=inventory,
        ring_bytes=ring_bytes,
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="on")
    config.timeout_graceful_shutdown = 2
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive(), START_S)
        if not server.started:
            raise RuntimeError("the server did not start; the log says why")
        port = server.servers[0].sockets[0].getsockname()[1]
        with clients(port, settings["token"]) as (api, root):
            yield RunningServer(Home(home), port, api, root)
    finally:
        server.should_exit = True
        thread.join(START_S)
        end_keepers(Home(home))
        assert not thread.is_alive(), "the server does not end"


@contextlib.contextmanager
def clients(port: int, token: str | None = None) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A client below `/api/v1` and one at the root."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    address = f"http://127.0.0.1:{port}"
    with (
        httpx.Client(base_url=f"{address}/api/v1", headers=headers, timeout=30, trust_env=False) as api,
        httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False) as root,
    ):
        yield api, root


def server_command() -> list[str]:
    """The command that serves with the settings in the environment."""
    return [sys.executable, "-m", "server"]


def server_environment(home: Path, **settings: str) -> dict[str, str]:
    """An environment for `server_command`, without this process's own `XORON_` settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("XORON_")}
    return {**inherited, "PYTHONFAULTHANDLER": "1", "XORON_HOME": str(home), "XORON_PORT": "0", **settings}


@dataclass
class ServerProcess:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    server: RunningServer

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def server_process(home: Path, command: list[str] | None = None, **settings: str) -> Iterator[ServerProcess]:
    """`python -m server` (or another command that logs its address as it does) over `home`; runs live on after it."""
    log = home.parent / f"server-{time.monotonic_ns()}.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            command or server_command(), env=server_environment(home, **settings), stderr=sink, text=True
        )
    try:
        port = wait_for(lambda: _port(log, process), START_S)
        with clients(port, settings.get("XORON_TOKEN")) as (api, root):
            wait_for(lambda: _is_ready(root), START_S)
            yield ServerProcess(process, RunningServer(Home(home), port, api, root))
    except BaseException as error:
        if process.poll() is not None:
            error.add_note(f"the server ended with {process.returncode}: {log.read_text()[-3000:]}")
        raise
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(START_S)


def _port(log: Path, process: subprocess.Popen[str]) -> int:
    text = log.read_text()
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with {process.returncode}: {text}")
    match = re.search(r" on http://\S*:(\d+)", text)
    return int(match[1]) if match else 0


def _is_ready(root: httpx.Client) -> bool:
    try:
        return root.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def end_keepers(home: Home) -> None:
    """End what still runs in a home, and wait until it is gone."""
    for run in home.run_directories():
        keeper = run.keeper()
        if keeper is None or keeper.keeper.pid == os.getpid():
            continue
        if keeper.inode not in {None, run.path.stat().st_ino}:  # of the run that this one is a copy of
            continue
        for process in (keeper.keeper, keeper.trainer):  # a keeper that lives would tell of its trainer
            if process is not None and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                wait_for(lambda process=process: not process.is_alive())  # type: ignore[misc]


StartServer = Callable[..., RunningServer]


@pytest.fixture
def start_server(tmp_path: Path, index: str | None) -> Iterator[StartServer]:
    """Starts servers in threads, over `tmp_path / "home"` unless told otherwise."""
    with contextlib.ExitStack() as stack:

        def start(home: Path | None = None, **options: Any) -> RunningServer:
            options = {"database_url": index, **options}
            return stack.enter_context(server_in_thread(home or tmp_path / "home", **options))

        yield start


@pytest.fixture
def running_server(start_server: StartServer) -> RunningServer:
    """A server over an empty home, with real keepers and the scripted trainer."""
    return start_server()

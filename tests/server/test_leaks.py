"""What a server holds does not grow with the runs that come and go."""

import threading
from pathlib import Path

import psutil
import pytest
from support.runs import wait_for
from support.serving import RunningServer, StartServer

NUM_STARTS = 10


def held() -> tuple[int, int]:
    """Threads and open files of this process, the server's home."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[int]:
    """Processes that this one started, zombies too."""
    return {child.pid for child in psutil.Process().children()}


def start_and_stop(server: RunningServer) -> None:
    run_id = server.create({"training": {"max_steps": None}})["id"]
    server.wait_state(run_id, "running")
    assert server.api.post(f"/runs/{run_id}/stop").status_code == 202
    server.wait_state(run_id, "stopped")


@pytest.mark.slow
def test_starts_and_stops_leave_no_thread_file_or_process_behind(start_server: StartServer) -> None:
    others = children()
    server = start_server()
    for _ in range(2):  # pools of threads and connections fill up first
        start_and_stop(server)
    wait_for(lambda: children() <= others)
    threads, files = held()
    for _ in range(NUM_STARTS):
        start_and_stop(server)
    wait_for(lambda: children() <= others)
    wait_for(lambda: held()[0] <= threads + 2 and held()[1] <= files + 4)
    keepers = [run.keeper() for run in server.home.run_directories()]
    assert len(keepers) == NUM_STARTS + 2
    assert not any(keeper is not None and keeper.keeper.is_alive() for keeper in keepers)

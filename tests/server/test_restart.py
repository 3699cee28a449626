"""The server goes, the runs stay: restart, lost index, damaged index, two servers, refusals at the start."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import (
    RunningServer,
    end_keepers,
    scripted_launch,
    server_command,
    server_environment,
    server_in_thread,
    server_process,
)

from server.app import serve
from server.errors import ServeError
from server.settings import Settings
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.events import SampleEvent
from xoron_core.contract.home import Home
from xoron_core.contract.states import RunState

ENDLESS = {"training": {"max_steps": None}}

SCRIPTED_SERVER = """
import logging, sys
from pathlib import Path
import server.app
from support.serving import scripted_launch
logging.basicConfig(level=logging.INFO)
server.app.serve(server.app.Settings(), launch=scripted_launch())
"""


def everything(server: RunningServer) -> dict[str, Any]:
    """All that the API tells of all runs."""
    rows = server.api.get("/runs").json()
    told: dict[str, Any] = {"runs": rows}
    for row in rows["items"]:
        keys = server.api.get(f"/runs/{row['id']}/series").json()["keys"]
        for path in (f"series?keys={','.join(keys)}", "metrics", "samples", "checkpoints"):
            told[f"{row['id']} {path}"] = server.api.get(f"/runs/{row['id']}/{path}").json()
    return told


def fill(home: Home) -> int:
    """Three runs with curves, samples and attempts; their number."""
    home.prepare()
    for number, state in enumerate((RunState.COMPLETED, RunState.FAILED, RunState.STOPPED), 1):
        with ScriptedRun(home, name=f"run {number}") as run:
            run.steps(range(1, 200 * number))
            run.say(SampleEvent(step=5, modality="text", path="samples/x.txt", mime="text/plain", caption="c"))
            run.end(RunState.INTERRUPTED)
            run.begin()
            run.steps(range(1, 100))
            run.end(state, "because")
    return 3


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    num_runs = fill(home)
    with server_in_thread(home.path) as server:
        before = everything(server)
    assert len(before["runs"]["items"]) == num_runs
    assert before["runs"]["items"][0]["state"] == "stopped"
    with server_in_thread(home.path) as server:
        assert everything(server) == before


@pytest.mark.parametrize("damage", ["deleted", "garbage", "torn", "older"])
def test_a_lost_or_damaged_index_is_built_anew(tmp_path: Path, damage: str) -> None:
    home = Home(tmp_path / "home")
    fill(home)
    with server_in_thread(home.path) as server:
        before = everything(server)
    if damage == "deleted":
        home.database.unlink()
    elif damage == "garbage":
        home.database.write_bytes(os.urandom(50_000))
    elif damage == "torn":
        blob = home.database.read_bytes()
        home.database.write_bytes(blob[: len(blob) // 2])
    else:
        import sqlite3

        with sqlite3.connect(home.database) as connection:
            connection.execute("UPDATE meta SET content = 0")
            connection.execute("DELETE FROM chunks")
        connection.close()
    with server_in_thread(home.path) as server:
        assert everything(server) == before


def test_a_run_outlives_a_killed_server_and_its_curve_has_no_gap(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    command = [sys.executable, "-c", SCRIPTED_SERVER]
    python_path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    try:
        with server_process(home.path, command, **python_path) as first:
            run_id = first.server.create(ENDLESS)["id"]
            wait_for(lambda: first.server.show(run_id)["step"] >= 5)
            first.kill()
        keeper = home.run(run_id).keeper()
        assert keeper is not None
        assert keeper.keeper.is_alive()
        with server_process(home.path, command, **python_path) as second:
            row = second.server.wait_state(run_id, "running")
            assert row["attempt"] == 1
            step = wait_for(lambda: (now := second.server.show(run_id)["step"]) > row["step"] + 5 and now)
            series = second.server.api.get(f"/runs/{run_id}/series", params={"keys": "text/loss"}).json()
            steps = series["series"]["text/loss"]["x"]
            assert steps == list(range(1, len(steps) + 1))
            assert len(steps) >= step
            assert second.server.api.post(f"/runs/{run_id}/stop").status_code == 202
            second.server.wait_state(run_id, "stopped")
    finally:
        end_keepers(home)


def test_waiting_runs_are_launched_after_a_restart(tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> subprocess.Popen[bytes]:
        raise AssertionError("nothing may be launched: the one place is taken")

    home = Home(tmp_path / "home")
    home.prepare()
    with ScriptedRun(home) as blocking:
        with server_in_thread(home.path, launch=fail, max_runs=1) as server:
            server.wait_state(blocking.id, "running")
            run_id = server.create({"training": {"max_steps": 2}})["id"]
            assert server.show(run_id)["state"] == "queued"
            assert server.api.get("/system").json()["live_runs"] == 1
        blocking.end()
    with server_in_thread(home.path, launch=scripted_launch(0.01)) as server:
        server.wait_state(run_id, "completed")


def test_a_run_whose_keeper_was_killed_goes_on_by_itself(tmp_path: Path) -> None:
    with server_in_thread(tmp_path / "home") as server:
        run_id = server.create({"training": {"max_steps": None, "save_steps": 5}})["id"]
        wait_for(lambda: server.show(run_id)["step"] >= 6)
        keeper = server.home.run(run_id).keeper()
        assert keeper is not None
        os.kill(keeper.keeper.pid, signal.SIGKILL)
        row = wait_for(lambda: (now := server.show(run_id))["attempt"] == 2 and now["state"] == "running" and now)
        assert row["trouble"]["failure"] == "interrupted"
        attempt = server.home.run(run_id).attempt(2)
        assert attempt.cause == "interrupted"
        assert attempt.checkpoint is not None
        step = wait_for(lambda: (now := server.show(run_id)["step"]) > row["step"] + 3 and now)
        series = server.api.get(f"/runs/{run_id}/series", params={"keys": "text/loss"}).json()
        steps = series["series"]["text/loss"]["x"]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) >= step


def test_a_dead_keeper_is_noticed_within_a_second(tmp_path: Path) -> None:
    with server_in_thread(tmp_path / "home") as server:
        run_id = server.create({**ENDLESS, "trouble": {"max_interruptions": 0}})["id"]
        server.wait_state(run_id, "running")
        end_keepers(server.home)
        row = server.wait_state(run_id, "interrupted", timeout_s=2)
        assert "processes are gone" in row["reason"]
        assert server.api.post(f"/runs/{run_id}/resume").status_code == 202
        assert server.wait_state(run_id, "running")["attempt"] == 2


def test_the_order_of_the_queue_survives_a_restart_and_the_loss_of_the_index(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    with ScriptedRun(home) as blocking:
        with server_in_thread(home.path) as server:
            server.wait_state(blocking.id, "running")
            a, b, c, d = (server.create(ENDLESS)["id"] for _ in range(4))
            server.api.put("/queue", json={"runs": [d, a, b]})
            server.api.patch(f"/runs/{c}", json={"priority": 1})
            before = [run["id"] for run in server.queue()["items"]]
        assert before == [c, d, a, b]
        for is_lost in (False, True):
            if is_lost:
                home.database.unlink()
            with server_in_thread(home.path) as server:
                queue = server.queue()["items"]
                assert [run["id"] for run in queue] == before
                assert [run["waiting"]["position"] for run in queue] == [1, 2, 3, 4]


def test_a_home_that_fails_for_a_moment_is_followed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with server_in_thread(tmp_path / "home") as server:
        away = server.home.runs.rename(tmp_path / "away")
        server.home.runs.write_text("not a folder")
        wait_for(lambda: "looking for runs failed" in caplog.text)
        server.home.runs.unlink()
        away.rename(server.home.runs)
        assert server.root.get("/readyz").status_code == 200
        with ScriptedRun(server.home) as run:
            server.wait_state(run.id, "running")


def test_a_run_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    with ScriptedRun(home) as run:
        run.end()
    record = run.directory.run_file
    away = record.rename(tmp_path / "away")
    record.mkdir()  # reading it is an error of the system, as it is of a bad sector or of another user's file
    with server_in_thread(home.path) as server:
        ready = server.root.get("/readyz")
        assert ready.status_code == 200
        assert "IsADirectoryError" in ready.json()["unreadable_runs"][run.id]
        short = {"training": {"max_steps": 2}}
        server.wait_state(server.create(short)["id"], "completed")
        assert caplog.text.count(f"run {run.id} is left out: IsADirectoryError") == 1
        record.rmdir()
        away.rename(record)
        server.wait_state(run.id, "completed")
        wait_for(lambda: server.root.get("/readyz").json()["unreadable_runs"] == {})


def test_a_folder_that_may_not_be_looked_into_does_not_hide_the_others() -> None:
    code = (
        "import os, pathlib, sys; from xoron_core.contract.home import Home;"
        "os.getuid() or os.setresuid(65534, 65534, 65534);"
        "print(len(Home(pathlib.Path(sys.argv[1])).run_directories()))"
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.prepare()
        home.path.chmod(0o755)
        for _ in range(2):
            with ScriptedRun(home) as run:
                run.end()
        run.directory.path.chmod(0)
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=60)
        run.directory.path.chmod(0o755)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_second_server_on_a_home_is_refused(tmp_path: Path) -> None:
    with server_in_thread(tmp_path / "home"), pytest.raises(RunDirectoryError, match="served already") as refusal:
        serve(Settings(home=tmp_path / "home", port=0))
    assert str(os.getpid()) in str(refusal.value)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port} is taken.*XORON_PORT"):
            serve(Settings(home=tmp_path / "home", port=port))


@pytest.mark.parametrize("kind", ["file", "below a file", "proc"])
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    home = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "home", "proc": Path("/proc/xoron")}[kind]
    with pytest.raises(RunDirectoryError, match=r"cannot be written.*XORON_HOME"):
        serve(Settings(home=home, port=0))


def test_a_refusal_is_one_line_for_a_person(tmp_path: Path) -> None:
    environment = server_environment(tmp_path / "home", XORON_HOST="0.0.0.0")
    done = subprocess.run(server_command(), env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("xoron: host 0.0.0.0 can be reached by other machines: set XORON_TOKEN")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("XORON_PORT", "abc", "XORON_PORT is 'abc': input should be a valid integer"),
        ("XORON_MAX_RUNS", "0", "XORON_MAX_RUNS is '0': input should be greater than or equal to 1"),
        ("XORON_DATABASE_URL", "nonsense", "XORON_DATABASE_URL is no address of a database"),
        ("XORON_DATABASE_URL", "nosuch://x", "XORON_DATABASE_URL is no address of a database"),
        ("XORON_DATABASE_URL", "sqlite+nosuch://x", "XORON_DATABASE_URL is no address of a database"),
    ],
)
def test_a_setting_at_fault_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv("XORON_PORT", "0")
    monkeypatch.setenv(name, value)
    with pytest.raises(ServeError, match=re.escape(message)):
        serve(Settings.read(home=tmp_path / "home"))


def test_the_real_command_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    with server_process(tmp_path / "home") as running:
        assert running.server.root.get("/healthz").json() == {"status": "ok"}
        assert running.server.root.get("/readyz").json() == {"status": "ready", "unreadable_runs": {}}
        running.process.terminate()
        running.process.wait(20)
    with server_in_thread(tmp_path / "home"):
        pass

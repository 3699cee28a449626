"""Trouble with the index reaches neither trainer nor server: it is told, waited out or healed; nothing is missing."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clerk import Clerk
from support.mounts import immutable, need_mounts, remount, small_disk
from support.postgresql import Cluster
from support.runs import events, wait_for
from support.serving import RunningServer, server_in_thread

from server.db import DatabaseTroubleError
from server.runs.children import Children
from server.runs.index import RunIndex
from server.runs.service import RunService
from server.runs.store import RunRow
from xoron_core.contract.api import PatchRun, QueueOrder, ResumeRun, RunCommand, StopRun
from xoron_core.contract.home import Home
from xoron_core.contract.states import RunState

ENDLESS = {"training": {"max_steps": None}}
NOTICED_S = 6.0


@contextmanager
def live_run(home: Path, **settings: Any) -> Iterator[tuple[RunningServer, str]]:
    """A server with a run that trains; at the end, its curve must be the one in its events, without gap or repeat."""
    with server_in_thread(home, **settings) as server:
        run_id = server.create(ENDLESS)["id"]
        wait_for(lambda: server.show(run_id)["step"] >= 5)
        yield server, run_id
        wait_ready(server)
        assert server.api.post(f"/runs/{run_id}/stop").status_code == 202
        server.wait_state(run_id, "stopped")
        check_whole(server, run_id)


def check_whole(server: RunningServer, run_id: str) -> None:
    """The index holds all that the run's file holds."""
    said = events(server.home.run(run_id))
    assert [record["seq"] for record in said] == list(range(1, len(said) + 1))
    server.wait_seq(run_id, len(said))
    steps = [record["step"] for record in said if record["kind"] == "metrics"]
    answer = server.api.get(f"/runs/{run_id}/series", params={"keys": "text/loss"}).json()
    assert answer["series"]["text/loss"]["x"] == steps == list(range(1, len(steps) + 1))
    assert server.api.get(f"/runs/{run_id}/metrics").json()["modalities"]["text"]["metrics"]["text/loss"][
        "count"
    ] == len(steps)
    page = server.api.get(f"/runs/{run_id}/events", params={"limit": 10_000}).json()
    assert [record["seq"] for record in page["items"]] == list(range(1, len(said) + 1))


def num_events(server: RunningServer, run_id: str) -> int:
    return len(events(server.home.run(run_id)))


def wait_ready(server: RunningServer) -> None:
    wait_for(lambda: server.root.get("/readyz").status_code == 200)


def not_ready(server: RunningServer) -> str:
    """What `/readyz` says is wrong, told in time."""
    begun = time.monotonic()
    response = server.root.get("/readyz")
    assert time.monotonic() - begun < NOTICED_S
    if response.status_code == 200:
        return ""
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


def check_told(server: RunningServer, run_id: str, *words: str) -> None:
    """While the index cannot be written: `/readyz` and calls that need it say so soon, and the rest goes on."""
    detail = wait_for(lambda: not_ready(server))
    for word in words:
        assert word in detail
    before = num_events(server, run_id)
    begun = time.monotonic()
    refused = server.api.post("/runs", json={"preset": "demo", "config": {}})
    assert time.monotonic() - begun < NOTICED_S
    assert refused.status_code == 503, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert words[0] in refused.json()["detail"]
    assert server.root.get("/healthz").status_code == 200
    assert server.api.get(f"/runs/{run_id}/logs").status_code == 200
    wait_for(lambda: num_events(server, run_id) > before + 5)
    assert len(server.home.run_directories()) == 1, "what was refused must not be there later"


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        wait_for(lambda: _is_taken(other))
        yield
        other.execute("ROLLBACK")


def _is_taken(other: sqlite3.Connection) -> bool:
    try:
        other.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    return True


def test_a_lock_of_another_program_is_told_and_waited_out(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with live_run(home.path) as (server, run_id), held_by_another(home.database):
        check_told(server, run_id, "is locked by another program", "end that program")
        assert server.api.get("/runs").status_code == 200, "reading goes on"


def test_a_run_is_stopped_although_the_index_is_locked(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with server_in_thread(home.path) as server:
        run_id = server.create(ENDLESS)["id"]
        wait_for(lambda: server.show(run_id)["step"] >= 5)
        with held_by_another(home.database):
            wait_for(lambda: not_ready(server))
            row = server.api.post(f"/runs/{run_id}/stop")
            assert row.status_code == 202, row.text
            assert row.json()["state"] == "stopping"
            wait_for(lambda: [one for one in events(home.run(run_id)) if one.get("state") == "stopped"])
            assert server.api.post(f"/runs/{run_id}/pause").status_code == 409, "the files say that it has ended"
        server.wait_state(run_id, "stopped")
        check_whole(server, run_id)


def all_files(home: Home) -> dict[str, str]:
    """Where every run is, and its record."""
    return {str(path): path.read_text() for path in sorted(home.path.glob("*/*/run.json"))}


@pytest.mark.parametrize("verb", ["create", "patch", "reorder", "resume", "delete", "restore"])
def test_what_finds_the_index_locked_is_refused_before_anything_is_written(tmp_path: Path, verb: str) -> None:
    with Clerk(tmp_path) as clerk:
        ended, waiting, deleted = clerk.create(), clerk.create(), clerk.create()
        for run in (ended, deleted):
            clerk.service.stop(run.id, StopRun())
        clerk.service.delete(deleted.id)
        do: dict[str, Callable[[], object]] = {
            "create": clerk.create,
            "patch": lambda: clerk.service.patch(ended.id, PatchRun(name="another")),
            "reorder": lambda: clerk.service.reorder(QueueOrder(runs=[waiting.id])),
            "resume": lambda: clerk.service.resume(ended.id, ResumeRun()),
            "delete": lambda: clerk.service.delete(ended.id),
            "restore": lambda: clerk.service.restore(deleted.id),
        }
        before = all_files(clerk.home)
        with held_by_another(clerk.home.database):
            with pytest.raises(DatabaseTroubleError, match="locked by another program"):
                do[verb]()
            assert all_files(clerk.home) == before
        wait_for(lambda: clerk.database.probe() is None and clerk.database.is_whole.is_set())
        do[verb]()
        assert all_files(clerk.home) != before or verb == "reorder"


@pytest.mark.parametrize("verb", ["stop", "pause", "cancel"])
def test_a_run_is_ended_by_a_server_that_has_not_read_its_index_yet(tmp_path: Path, verb: str) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        with held_by_another(clerk.home.database):
            service = RunService(RunIndex(clerk.home, clerk.database, Children()), clerk.ingest, 0)
            ask: dict[str, Callable[[], RunRow]] = {
                "stop": lambda: service.stop(run.id, StopRun()),
                "pause": lambda: service.pause(run.id, RunCommand()),
                "cancel": lambda: service.cancel(run.id, RunCommand()),
            }
            assert ask[verb]().state is (RunState.PAUSING if verb == "pause" else RunState.STOPPING)
            assert [command.kind for command in run.commands.after(0)] == [verb]


@pytest.mark.parametrize("how", ["deleted", "file alone", "replaced"])
def test_an_index_that_is_deleted_while_it_is_used_is_rebuilt(tmp_path: Path, how: str) -> None:
    home = Home(tmp_path / "home")
    with live_run(home.path) as (server, run_id):
        old = home.database.stat().st_ino
        if how == "replaced":
            other = tmp_path / "other"
            with closing(sqlite3.connect(other)) as connection:
                connection.execute("CREATE TABLE other (x)")
            other.rename(home.database)
            old = home.database.stat().st_ino
        else:
            home.database.rename(tmp_path / "away")  # kept, so that its inode is not used again
            if how == "deleted":
                for suffix in ("-wal", "-shm"):
                    home.database.with_name(home.database.name + suffix).unlink()
        wait_for(lambda: home.database.exists() and home.database.stat().st_ino != old)
        wait_ready(server)
        seq = num_events(server, run_id)
        server.wait_seq(run_id, seq)
    with closing(sqlite3.connect(home.database)) as connection:
        assert connection.execute("SELECT cursor_seq FROM runs").fetchone()[0] >= seq, "the new file holds it"
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("where", ["head", "everything"])
def test_an_index_that_is_overwritten_while_it_is_used_is_rebuilt(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home")
    with live_run(home.path) as (server, _):
        with closing(sqlite3.connect(home.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = home.database.stat().st_size
        with home.database.open("r+b") as file:
            file.write(os.urandom(4096 if where == "head" else size))
        wait_for(lambda: server.api.get("/runs").status_code and "building it anew" in caplog.text)
        wait_ready(server)


def test_a_full_disk_under_the_index_is_told_and_waited_out(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    need_mounts(request)
    with small_disk(tmp_path / "disk") as disk:
        url = f"sqlite:///{disk / 'index.sqlite3'}"
        with live_run(tmp_path / "home", database_url=url) as (server, run_id):
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(4096))
            check_told(server, run_id, "has no room on its disk", "free some space")
            filler.unlink()


def test_an_index_that_is_made_immutable_is_told_and_taken_up_again(tmp_path: Path) -> None:
    index = Home(tmp_path / "home").database
    files = (index, index.with_name(f"{index.name}-wal"))
    with live_run(tmp_path / "home") as (server, run_id), immutable(*files):
        check_told(server, run_id, "cannot be written")


def test_a_server_begins_on_a_read_only_disk_and_takes_the_index_up_later(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    need_mounts(request)
    with small_disk(tmp_path / "disk") as disk:
        url = f"sqlite:///{disk / 'index.sqlite3'}"
        with server_in_thread(tmp_path / "home", database_url=url) as server:
            run_id = server.create({"training": {"max_steps": 10}})["id"]
            server.wait_state(run_id, "completed")
        remount(disk, "ro")
        with server_in_thread(tmp_path / "home", database_url=url) as server:
            assert "cannot be written" in not_ready(server)
            assert server.api.post("/runs", json={"preset": "demo"}).status_code == 503
            assert server.root.get("/healthz").status_code == 200
            remount(disk, "rw")
            wait_ready(server)
            check_whole(server, run_id)


def test_a_lost_postgresql_is_told_and_taken_up_again(tmp_path: Path, postgresql: Cluster) -> None:
    url = postgresql.new_database()
    with live_run(tmp_path / "home", database_url=url) as (server, run_id):
        postgresql.stop()
        try:
            check_told(server, run_id, "cannot be reached", "start the database")
            assert server.api.get("/runs").status_code == 503
            assert server.api.post(f"/runs/{run_id}/checkpoint").status_code == 202, "files suffice"
        finally:
            postgresql.start()


def test_a_server_waits_for_a_postgresql_that_starts_later(tmp_path: Path, postgresql: Cluster) -> None:
    url = postgresql.new_database()
    postgresql.stop()
    try:
        with server_in_thread(tmp_path / "home", database_url=url) as server:
            assert "cannot be reached" in not_ready(server)
            postgresql.start()
            wait_ready(server)
            run_id = server.create({"training": {"max_steps": 3}})["id"]
            server.wait_state(run_id, "completed")
    finally:
        postgresql.stop()
        postgresql.start()


def test_emptied_tables_of_postgresql_are_filled_again(
    tmp_path: Path, postgresql: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    import psycopg

    url = postgresql.new_database()
    with live_run(tmp_path / "home", database_url=url) as (server, _):
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DROP TABLE runs, chunks, notes")
        wait_for(lambda: server.api.get("/runs").status_code and "building it anew" in caplog.text)

"""The index as such: migrations, versions, rebuilding by hand, what each database makes of odd content."""

import json
import logging
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from support.clerk import Clerk
from support.postgresql import ON_BOTH
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, server_environment, server_in_thread

import server.reindexing
from server import db
from server.db.opening import VERSION_TABLE, make_engine
from server.errors import ServeError
from server.metrics.ingest import Ingest
from server.metrics.store import Point, PointWriter, decode, encode
from server.runs import store
from server.settings import Settings
from xoron_core.contract import clock
from xoron_core.contract.api import RunCommand
from xoron_core.contract.events import MetricsEvent, SampleEvent
from xoron_core.contract.home import Home
from xoron_core.contract.run_directory import RunDirectory, RunRecord
from xoron_core.contract.segments import LIVE_NAME
from xoron_core.contract.states import RunState


@pytest.fixture
def url(index: str | None, tmp_path: Path) -> str:
    """An index without a server."""
    return index or f"sqlite:///{tmp_path / 'index.sqlite3'}"


@ON_BOTH
def test_migrations_lead_to_the_tables_that_the_code_knows(url: str) -> None:
    with closing(db.open_database(url)) as database, database.read() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), db.metadata) == []


def change(url: str, *statements: str) -> None:
    """Alter an index behind the server's back."""
    engine = make_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()


CHANGES = {
    "unknown revision 9999": [f"UPDATE {VERSION_TABLE} SET version_num = '9999'"],
    "before there were migrations": [f"DROP TABLE {VERSION_TABLE}"],
    "holds content of version 0": ["UPDATE meta SET content = 0"],
    "is damaged": ["DROP TABLE meta"],
}


@ON_BOTH
@pytest.mark.parametrize("words", list(CHANGES))
def test_an_index_that_is_not_of_today_is_begun_anew_and_the_log_says_why(
    url: str, tmp_path: Path, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    with ScriptedRun(home) as run:
        seq = run.steps(range(1, 300))
        run.end()
    with server_in_thread(home.path, database_url=url):
        pass
    change(url, *CHANGES[words], "UPDATE runs SET facts = 'nonsense'")
    with server_in_thread(home.path, database_url=url) as server:
        server.wait_seq(run.id, seq)
        curve = server.api.get(f"/runs/{run.id}/series", params={"keys": "text/loss"}).json()["series"]["text/loss"]
        assert curve["x"] == list(range(1, 300))
    told = [one.getMessage() for one in caplog.records if "building it anew" in one.getMessage()]
    assert len(told) == 1
    assert words in told[0]


@ON_BOTH
def test_a_database_of_another_program_is_refused_and_left_as_it_is(url: str) -> None:
    change(url, "CREATE TABLE runs (run_uuid INTEGER)", "INSERT INTO runs VALUES (7)")
    for _ in range(2):
        with pytest.raises(ServeError, match=r"holds tables of another program.*XORON_DATABASE_URL \(runs\)"):
            db.open_database(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == ["runs"]
        assert connection.scalar(sqlalchemy.text("SELECT run_uuid FROM runs")) == 7
    engine.dispose()


def test_a_file_that_is_no_index_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    named = tmp_path / "precious.txt"
    named.write_text("dear diary")
    with closing(db.open_database(f"sqlite:///{named}")) as database:
        database.rebuild()
        assert database.probe() is None
    assert (tmp_path / "precious.txt.replaced").read_text() == "dear diary"


@ON_BOTH
def test_a_restart_and_a_rebuilding_tell_the_same(url: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    for state in (RunState.COMPLETED, RunState.FAILED):
        with ScriptedRun(home) as run:
            run.steps(range(1, 300))
            run.say(SampleEvent(step=5, modality="text", path="samples/x.txt", mime="text/plain", caption="c"))
            run.end(RunState.INTERRUPTED)
            run.begin()
            run.steps(range(1, 100))
            run.end(state)
    with server_in_thread(home.path, database_url=url) as server:
        before = told(server)
    with server_in_thread(home.path, database_url=url) as server:
        assert told(server) == before
    with closing(db.open_database(url)) as database:
        database.rebuild()
    with server_in_thread(home.path, database_url=url) as server:
        assert told(server) == before


def told(server: RunningServer) -> list[object]:
    rows = server.api.get("/runs").json()["items"]
    paths = ("series?keys=text/loss", "metrics", "samples")
    return [rows, *(server.api.get(f"/runs/{row['id']}/{path}").json() for row in rows for path in paths)]


@ON_BOTH
def test_odd_content_is_kept_or_left_out_but_stops_nothing(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.say(MetricsEvent(step=1, tokens=1, samples=1, values={"a\0b": 1.0}))
        run.say(MetricsEvent(step=2, tokens=1, samples=1, values={"x" * 301: 1.0}))
        run.say(MetricsEvent(step=2**62, tokens=2**62, samples=2**62, values={"far": 1e308}))
        run.say(SampleEvent(step=5, modality="text", path="samples/x.txt", mime="text/plain", caption="nul \0"))
        record = {"seq": run.end() + 1, "time": clock.now(), "attempt": 1, "kind": "metrics", "step": 7}
        record |= {"tokens": 7, "samples": 7, "values": {"half \ud800": 1.0}}
        with (run.directory.path / LIVE_NAME).open("a") as file:  # by another writer than this project's
            file.write(json.dumps(record) + "\n")
        running_server.wait_seq(run.id, record["seq"])
        keys = running_server.api.get(f"/runs/{run.id}/series").json()["keys"]
        assert keys == ["a\ufffdb", "far", "half ?"]
        assert running_server.api.get("/runs", params={"tag": "\0"}).json()["items"] == []
        assert running_server.api.get("/runs/%00").status_code == 404


@ON_BOTH
def test_tags_are_told_apart_by_case(running_server: RunningServer) -> None:
    running_server.create(tags=["Fast"])
    assert len(running_server.api.get("/runs", params={"tag": "Fast"}).json()["items"]) == 1
    assert running_server.api.get("/runs", params={"tag": "fast"}).json()["items"] == []


@ON_BOTH
def test_doubles_come_back_bit_for_bit(url: str) -> None:
    values = [float("nan"), float("inf"), -0.0, 5e-324, 1.7976931348623157e308]
    points = [Point(step, 0, 0, 0.1, value) for step, value in enumerate(values)]
    with closing(db.open_database(url)) as database:
        with database.write() as connection:
            PointWriter("a-run").append(connection, [(1, "key", point) for point in points])
        with database.read() as connection:
            blob = connection.scalar(sqlalchemy.select(db.chunks.c.points))
    assert bytes(blob) == encode(points)
    assert encode(decode(bytes(blob))) == bytes(blob)


def reindex(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xoron_core.cli", "reindex", "--home", str(home), *words]
    return subprocess.run(command, env=server_environment(home), capture_output=True, text=True, timeout=60)


def test_reindex_builds_the_index_and_says_what_it_found(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    with ScriptedRun(home) as run:
        run.steps(range(1, 50))
        seq = run.end()
    with ScriptedRun(home) as broken:
        broken.end()
    broken.directory.run_file.write_text("{")
    home.database.write_bytes(b"no database")
    done = reindex(home.path, "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["runs"], found["events"], found["malformed_events"]) == (1, seq, 0)
    assert list(found["unreadable"]) == [broken.id]
    assert "run.json" in found["unreadable"][broken.id]
    with closing(db.open_database(f"sqlite:///{home.database}")) as database, database.read() as connection:
        assert connection.scalar(sqlalchemy.select(db.runs.c.cursor_seq)) == seq
    broken.directory.run_file.unlink()
    done = reindex(home.path)
    assert done.returncode == 0
    assert f"1 runs and {seq} events" in done.stdout


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_reindex_ends_when_its_reader_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_: Ingest) -> bool:
        raise MemoryError

    monkeypatch.setattr(Ingest, "_index_is_well", die)
    with pytest.raises(ServeError, match="has died"):
        server.reindexing.reindex(Settings(home=tmp_path))


def test_reindex_is_refused_while_a_server_has_the_home(running_server: RunningServer) -> None:
    done = reindex(running_server.home.path)
    assert done.returncode == 1
    assert "is served already" in done.stderr


def test_an_index_that_was_put_back_from_a_copy_is_read_on_from_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path / "home")
    with server_in_thread(home.path) as server, ScriptedRun(server.home) as run:
        server.wait_seq(run.id, run.steps(range(1, 201)))
        url = f"sqlite:///{home.database}"
        change(url, "UPDATE runs SET cursor_seq = 0, cursor_first_seq = 0, cursor_offset = 0", "DELETE FROM chunks")
        change(url, "DELETE FROM metric_keys", "UPDATE runs SET facts = '{}'", "DELETE FROM marks")
        seq = run.steps(range(201, 211))
        wait_for(lambda: "reading on from there" in caplog.text)
        server.wait_seq(run.id, seq)
        curve = server.api.get(f"/runs/{run.id}/series", params={"keys": "text/loss"}).json()["series"]["text/loss"]
        assert curve["x"] == list(range(1, 211))


def test_a_run_whose_row_and_record_both_go_bad_does_not_end_the_reader(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with server_in_thread(home.path) as server, ScriptedRun(server.home) as bad, ScriptedRun(server.home) as good:
        for run in (bad, good):
            server.wait_state(run.id, "running")
        record = bad.directory.run_file.read_text()
        bad.directory.run_file.write_text("{")
        change(f"sqlite:///{home.database}", f"DELETE FROM runs WHERE id = '{bad.id}'")
        bad.steps(range(1, 3))
        seq = good.steps(range(1, 3))
        server.wait_seq(good.id, seq)
        wait_for(lambda: server.api.get(f"/runs/{bad.id}").status_code >= 400)
        assert server.root.get("/readyz").status_code == 200
        bad.directory.run_file.write_text(record)
        server.wait_seq(bad.id, bad.steps(range(3, 5)))


def test_ready_means_that_the_index_can_be_written(running_server: RunningServer) -> None:
    engine = make_engine(f"sqlite:///{running_server.home.database}")

    def probes() -> int:
        with engine.connect() as connection:
            return int(connection.scalar(sqlalchemy.select(db.meta.c.probe)) or 0)

    before = probes()
    assert running_server.root.get("/readyz").status_code == 200
    assert probes() > before
    engine.dispose()


def test_migrations_are_in_the_wheel(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert {"server/migrations/env.py", "server/migrations/versions/tables_0001.py"} <= set(names)


def test_a_start_with_an_index_of_today_says_nothing_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    url = f"sqlite:///{tmp_path / 'index.sqlite3'}"
    for _ in range(2):
        db.open_database(url).close()
    assert [one for one in caplog.records if one.name.startswith(("alembic.runtime.migration", "server.db"))] == []


def test_a_writer_that_never_ends_keeps_nobody_waiting(tmp_path: Path) -> None:
    with closing(db.open_database(f"sqlite:///{tmp_path / 'index.sqlite3'}")) as database:
        entered, leave = threading.Event(), threading.Event()

        def write_on() -> None:
            with database.write():
                entered.set()
                leave.wait(30)

        stuck = threading.Thread(target=write_on)
        stuck.start()
        try:
            assert entered.wait(10)
            begun = time.monotonic()
            trouble = database.probe()
            assert time.monotonic() - begun < 3
            assert trouble is not None
            assert "is busy" in str(trouble)
        finally:
            leave.set()
            stuck.join()
        assert database.probe() is None


def test_an_older_look_at_a_run_does_not_replace_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.create()
        pausing = threading.Thread(target=lambda: clerk.service.pause(run.id, RunCommand()))
        read = RunDirectory.record

        def read_and_dawdle(self: RunDirectory) -> RunRecord:
            record = read(self)
            if pausing.ident is None:
                pausing.start()
                pausing.join(0.5)
            return record

        monkeypatch.setattr(RunDirectory, "record", read_and_dawdle)
        clerk.index.refresh(run.id)
        pausing.join()
        with clerk.database.read() as connection:
            row = store.get(connection, run.id)
        assert row is not None
        assert row.state is RunState.PAUSED

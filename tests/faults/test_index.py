"""The index is locked, read-only, deleted while a run trains: the run does not notice, the server says so."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.course import Undisturbed, assert_same, story
from support.fault_bench import LIVE_S, FaultBench, wait_end, wait_step
from support.faulty_trainer import Fault
from support.mounts import immutable
from support.runs import wait_for
from support.serving import RunningServer

from xoron_core.contract.beat import read_beat
from xoron_core.contract.run_directory import RunDirectory

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

SLOW = Fault("slow", seconds=0.3, attempts=())
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds the index."""
    command = [sys.executable, "-c", LOCKER, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        yield
        assert locker.stdin is not None
        locker.stdin.close()
        locker.wait(LIVE_S)


def wait_told(server: RunningServer, words: str) -> None:
    """Wait until `/readyz` says what is wrong."""
    wait_for(lambda: (found := server.root.get("/readyz")).status_code == 503 and words in found.text, LIVE_S)


def wait_well(server: RunningServer) -> None:
    wait_for(lambda: server.root.get("/readyz").status_code == 200, LIVE_S)


def wait_trains_on(run: RunDirectory) -> None:
    """Some more steps are done, whatever the server knows of it."""
    step = read_beat(run.beat_file).step
    wait_for(lambda: read_beat(run.beat_file).step >= step + 2, LIVE_S)


def test_a_run_does_not_notice_that_the_index_is_locked_and_deleted(
    bench: FaultBench, undisturbed: Undisturbed
) -> None:
    """Deleted while a server has it open, and again while none has."""
    with bench.serve_apart() as served:
        server = served.server
        run = bench.create(server, SLOW)
        wait_step(server, run, 3)
        with locked(bench.home.database):
            wait_told(server, "is locked by another program")
            wait_trains_on(run)
        wait_well(server)
        wait_step(server, run, read_beat(run.beat_file).step)
        for path in bench.home.path.glob("index.sqlite3*"):
            path.unlink()
        wait_trains_on(run)
        wait_well(server)
        wait_step(server, run, read_beat(run.beat_file).step)
        for path in bench.home.path.glob("index.sqlite3*"):
            path.unlink()
        served.kill()
    with bench.serve_apart() as served:
        wait_end(served.server, run, "completed")
        assert story(run) == ["started → completed"]
        assert_same(served.server, run.id, undisturbed)


def test_a_run_does_not_notice_that_the_index_is_read_only(bench: FaultBench, undisturbed: Undisturbed) -> None:
    with bench.serve_apart() as served:
        server, database = served.server, bench.home.database
        run = bench.create(server, SLOW)
        wait_step(server, run, 3)
        with immutable(database, database.with_name(f"{database.name}-wal")):
            wait_told(server, "cannot be written")
            wait_trains_on(run)
        wait_well(server)
        wait_end(server, run, "completed")
        assert story(run) == ["started → completed"]
        assert_same(server, run.id, undisturbed)

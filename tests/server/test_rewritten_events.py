"""An index that knows more of a run than the run's files say: the files are right, and nothing new is swallowed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.clerk import Clerk
from support.runs import wait_for

from server.runs.view import view
from xoron_core.contract.events import LogEvent
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.segments import LIVE_NAME, rotated_segments
from xoron_core.contract.states import RunState
from xoron_core.contract.tailer import Cursor, EventTailer
from xoron_core.contract.writer import EventWriter

Lose = Callable[[RunDirectory, int], None]


def shorten(run: RunDirectory, num_records: int) -> None:
    """Take the end of the events, as a power cut does."""
    live = run.path / LIVE_NAME
    os.truncate(live, sum(map(len, live.read_bytes().splitlines(keepends=True)[:num_records])))


def put_back(run: RunDirectory, num_records: int) -> None:
    """Put an older copy in the place of the events."""
    live, copy = run.path / LIVE_NAME, run.path / "copy"
    shutil.copy(live, copy)
    copy.rename(live)
    shorten(run, num_records)


def check_index(clerk: Clerk, run: RunDirectory) -> None:
    """It holds what one holds that was made from the files."""
    known, rebuilt = clerk.row(run.id), clerk.rebuilt()[run.id]
    assert (known.facts, known.cursor.seq, known.state) == (rebuilt.facts, rebuilt.cursor.seq, rebuilt.state)


@pytest.mark.parametrize("lose", [shorten, put_back])
def test_events_that_a_power_cut_took_are_forgotten_and_the_new_ones_read(tmp_path: Path, lose: Lose) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        keeper = clerk.launch.keepers[run.id]
        for _ in range(20):
            keeper.steps()
        assert clerk.row(run.id).facts.step == 20
        keeper.dies(is_saving=False)
    lose(run, 8)
    with Clerk(tmp_path) as clerk:
        clerk.tick()
        keeper = clerk.launch.keepers[run.id]
        assert clerk.row(run.id).state is RunState.STARTING
        keeper.runs()
        keeper.steps()
        check_index(clerk, run)
        keeper.ends(RunState.COMPLETED)
        clerk.row(run.id)
        clerk.tick()
        assert clerk.row(run.id).state is RunState.COMPLETED
        assert not run.attempt_file(3).exists()
        check_index(clerk, run)


@pytest.mark.parametrize("lose", [shorten, put_back])
def test_events_that_are_put_back_under_a_server_are_read_from_the_beginning(tmp_path: Path, lose: Lose) -> None:
    with Clerk(tmp_path) as clerk:
        run = clerk.running()
        keeper = clerk.launch.keepers[run.id]
        for _ in range(20):
            keeper.steps()
        assert clerk.row(run.id).facts.step == 20
        lose(run, 8)
        wait_for(lambda: clerk.row(run.id).facts.last_seq == 8)
        keeper.say(LogEvent(level="info", message="x" * 5000))
        wait_for(lambda: clerk.row(run.id).facts.last_seq == 9)
        check_index(clerk, run)
        assert view(clerk.row(run.id)).state is RunState.RUNNING


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_reader_knows_a_place_that_is_not_its_own(tmp_path: Path, is_longer: bool) -> None:
    """Also where the files have grown beyond it since, and where they were rotated and compressed."""
    for folder, text in (("one", "a"), ("two", "bc")):
        (tmp_path / folder).mkdir()
        with EventWriter(tmp_path / folder, 1, rotate_bytes=1000) as writer:
            for _ in range(60 if folder == "two" and is_longer else 30):
                writer.append(LogEvent(level="info", message=text * 20))
    assert len(rotated_segments(tmp_path / "one")) == 3
    with EventTailer(tmp_path / "one") as tailer:
        cursors = [Cursor()]
        while tailer.poll(100):
            cursors.append(tailer.cursor)
    for cursor in cursors:
        for folder in ("one", "two"):
            with EventTailer(tmp_path / folder, cursor) as tailer:
                read = tailer.poll()
                assert tailer.is_displaced == (folder == "two" and cursor.offset > 0)
                assert [record["seq"] for record in read][:1] in ([], [cursor.seq + 1])


def test_an_old_copy_beside_the_file_that_it_is_of_is_passed_over(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1, rotate_bytes=1000) as writer:
        for _ in range(30):
            writer.append(LogEvent(level="info", message="x" * 20))
    with EventTailer(tmp_path) as tailer:
        assert [record["seq"] for record in iter_all(tailer)] == list(range(1, 31))
        with rotated_segments(tmp_path)[0].open() as first:
            (tmp_path / "copy").write_bytes(first.read())
        (tmp_path / "copy").rename(tmp_path / LIVE_NAME)
        assert tailer.poll() == []


def iter_all(tailer: EventTailer) -> list[dict[str, Any]]:
    """What there is."""
    found: list[dict[str, Any]] = []
    while records := tailer.poll():
        found += records
    return found

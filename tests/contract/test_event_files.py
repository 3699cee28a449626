"""Events on disk: whatever tears, rotates, fills up or restarts, every record is read once and in order."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.full_disks import Ballast
from support.mounts import need_mounts, small_disk

from xoron_core.contract.errors import EventsLockedError
from xoron_core.contract.events import LogEvent, MetricsEvent, StampedEvent
from xoron_core.contract.segments import LIVE_NAME, compress, parse_record, rotated_name, rotated_segments
from xoron_core.contract.tailer import Cursor, EventTailer
from xoron_core.contract.writer import EventWriter


def note(text: str = "") -> LogEvent:
    return LogEvent(level="info", message=text)


def read_all(directory: Path, cursor: Cursor = Cursor(), max_bytes: int = 4 * 2**20) -> list[dict[str, Any]]:
    with EventTailer(directory, cursor) as tailer:
        found: list[dict[str, Any]] = []
        while batch := tailer.poll(max_bytes):
            found += batch
    return found


def seqs(records: list[dict[str, Any]]) -> list[int]:
    return [record["seq"] for record in records]


def test_a_record_has_number_time_attempt_and_body(tmp_path: Path) -> None:
    with EventWriter(tmp_path, attempt=2) as writer:
        assert writer.append(MetricsEvent(step=1, tokens=2, samples=3, values={"text/loss": 1.5, "x/y": None})) == 1
    [record] = read_all(tmp_path)
    stamped = StampedEvent.model_validate(record)
    assert (stamped.seq, stamped.attempt, stamped.kind) == (1, 2, "metrics")
    assert stamped.time.endswith("Z")
    assert stamped.body() == MetricsEvent(step=1, tokens=2, samples=3, values={"text/loss": 1.5, "x/y": None})


def test_a_value_that_json_has_no_word_for_is_refused_and_leaves_no_gap(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note())
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.append(MetricsEvent(step=1, tokens=2, samples=3, values={"text/loss": float("nan")}))
        assert writer.append(note()) == 2
    assert seqs(read_all(tmp_path)) == [1, 2]


def test_a_record_torn_at_any_byte_is_cut_and_numbers_go_on(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note("one"))
        writer.append(note("two"))
        writer.append(note("thrée"))
    whole = (tmp_path / LIVE_NAME).read_bytes()
    start_of_last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start_of_last, len(whole)):
        (tmp_path / LIVE_NAME).write_bytes(whole[:end])
        assert seqs(read_all(tmp_path)) == [1, 2], end
        with EventWriter(tmp_path, 2) as writer:
            assert writer.append(note("again")) == (3 if end == start_of_last else 4), end
        records = read_all(tmp_path)
        assert seqs(records) == list(range(1, len(records) + 1)), end
        assert records[-1]["message"] == "again"


@pytest.mark.parametrize(
    "garbage", [b"\0" * 100 + b"\n", b"{}\n", b'{"seq": true}\n', b"[1]\n\n\n", b"\xff\xfe\n", b"\n"]
)
def test_garbage_at_the_end_is_cut(tmp_path: Path, garbage: bytes) -> None:
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note("one"))
    with (tmp_path / LIVE_NAME).open("ab") as file:
        file.write(garbage)
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note("two"))
    assert [record["message"] for record in read_all(tmp_path)][-1] == "two"
    assert [parse_record(line) is not None for line in (tmp_path / LIVE_NAME).read_bytes().splitlines()] == [True] * 3


def test_a_reader_that_saw_garbage_loses_nothing_when_it_is_cut(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note("one"))
    with (tmp_path / LIVE_NAME).open("ab") as file:
        file.write(b"not a record\n" * 20)
    with EventTailer(tmp_path) as tailer:
        assert seqs(tailer.poll()) == [1]
        assert tailer.poll() == []
        with EventWriter(tmp_path, 1) as writer:
            for _ in range(10):
                writer.append(note("more"))
        assert seqs(tailer.poll()) == list(range(2, 13))


def test_garbage_between_records_is_counted_and_passed(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note("one"))
        with (tmp_path / LIVE_NAME).open("ab") as file:
            file.write(b"nonsense\n")
        writer.append(note("two"))
    with EventTailer(tmp_path) as tailer:
        assert seqs(tailer.poll(max_bytes=5)) + seqs(tailer.poll(max_bytes=5)) == [1, 2]
        assert tailer.num_corrupt == 1


def test_a_file_of_garbage_alone_starts_anew(tmp_path: Path) -> None:
    (tmp_path / LIVE_NAME).write_bytes(b"garbage\n" * 30_000)
    assert read_all(tmp_path) == []
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note("first"))
    assert seqs(read_all(tmp_path)) == [1, 2]


def test_a_reader_takes_no_part_of_a_record_that_is_taken_back(tmp_path: Path) -> None:
    live = tmp_path / LIVE_NAME
    with EventWriter(tmp_path, 1) as writer, EventTailer(tmp_path) as tailer:
        writer.append(note("one"))
        assert seqs(tailer.poll(max_bytes=1000)) == [1]
        size = live.stat().st_size
        with live.open("ab") as file:
            file.write(b'{"seq":2,"kind":"log","message":"half a rec')
        assert tailer.poll(max_bytes=1000) == []
        os.truncate(live, size)  # as the writer does when the disk is full
        writer.append(note("two"))
        assert [record["message"] for record in tailer.poll(max_bytes=1000)] == ["two"]
        assert tailer.num_corrupt == 0


def test_a_live_file_that_shrank_is_read_on_by_number(tmp_path: Path) -> None:
    live = tmp_path / LIVE_NAME
    with EventWriter(tmp_path, 1) as writer:
        first_end = writer.append(note("one")) and live.stat().st_size
        writer.append(note("x" * 5000))
        writer.append(note("x" * 5000))
    with EventTailer(tmp_path) as tailer:
        assert seqs(tailer.poll()) == [1, 2, 3]
        os.truncate(live, first_end)  # put back from an older copy
        assert tailer.poll() == []
        with EventWriter(tmp_path, 1) as writer:
            for _ in range(4):
                writer.append(note())
        assert seqs(tailer.poll()) == [4, 5]
        os.truncate(live, 0)
        assert tailer.poll() == []
        assert tailer.poll() == []


ACTIONS = ["append", "append", "append", "poll", "restart writer", "restart tailer", "tear", "garbage"]


class Pair:
    """A writer and a reader of one directory, and what was read."""

    def __init__(self, directory: Path, rotate_bytes: int) -> None:
        self.directory = directory
        self.rotate_bytes = rotate_bytes
        self.writer = EventWriter(directory, 1, rotate_bytes)
        self.tailer = EventTailer(directory)
        self.read: list[int] = []

    def do(self, action: str, size: int) -> None:
        if action == "append":
            self.writer.append(note("x" * size))
        elif action == "poll":
            self.read += seqs(self.tailer.poll(1 + size))
        elif action == "restart tailer":
            self.tailer.close()
            self.tailer = EventTailer(self.directory, self.tailer.cursor)
        else:
            self.writer.close()
            if action != "restart writer":
                with (self.directory / LIVE_NAME).open("ab") as file:
                    file.write(b'{"seq": 99' if action == "tear" else b"\0\0\n{]\n")
                self.read += seqs(self.tailer.poll(1 + size))
            self.writer = EventWriter(self.directory, 1, self.rotate_bytes)

    def close(self) -> None:
        while batch := self.tailer.poll():
            self.read += seqs(batch)
        self.writer.close()
        self.tailer.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 500)), max_size=40),
    rotate_bytes=st.integers(1, 1000),
)
def test_any_interleaving_yields_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]], rotate_bytes: int
) -> None:
    pair = Pair(tmp_path_factory.mktemp("run"), rotate_bytes)
    for action, size in actions:
        pair.do(action, size)
    pair.close()
    assert pair.read == list(range(1, pair.writer.last_seq + 1))
    assert seqs(read_all(pair.directory)) == pair.read


def test_a_reader_restarted_at_any_record_goes_on_there(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1, rotate_bytes=400) as writer:
        cursors: list[Cursor] = []
        with EventTailer(tmp_path) as tailer:
            for number in range(30):
                writer.append(note(str(number)))
                assert len(tailer.poll()) == 1
                cursors.append(tailer.cursor)
    assert len(rotated_segments(tmp_path)) > 3
    assert all(segment.path.suffix == ".zst" for segment in rotated_segments(tmp_path))
    for cursor in cursors:
        assert seqs(read_all(tmp_path, cursor)) == list(range(cursor.seq + 1, 31))
        assert seqs(read_all(tmp_path, Cursor(cursor.seq))) == list(range(cursor.seq + 1, 31))


def test_reader_and_writer_at_full_speed(tmp_path: Path) -> None:
    num_records, done = 1500, threading.Event()

    def write() -> None:
        lengths = random.Random(0)
        with EventWriter(tmp_path, 1, rotate_bytes=700) as writer:
            for _ in range(num_records):
                writer.append(note("x" * lengths.randrange(100)))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    read: list[int] = []
    with EventTailer(tmp_path) as tailer:
        while not done.is_set():
            read += seqs(tailer.poll(1500))
        thread.join()
        while batch := tailer.poll():
            read += seqs(batch)
    assert read == list(range(1, num_records + 1))


@pytest.mark.parametrize("moment", ["renamed", "half compressed", "compressed, not removed"])
def test_a_rotation_cut_short_loses_nothing(tmp_path: Path, moment: str) -> None:
    with EventWriter(tmp_path, 1) as writer:
        for _ in range(5):
            writer.append(note())
    rotated = tmp_path / "events-000000000001.jsonl"
    (tmp_path / LIVE_NAME).rename(rotated)
    if moment == "half compressed":
        (tmp_path / f".{rotated.name}.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    if moment == "compressed, not removed":
        whole = rotated.read_bytes()
        compress(rotated)
        rotated.write_bytes(whole)
    assert seqs(read_all(tmp_path)) == [1, 2, 3, 4, 5]
    with EventWriter(tmp_path, 1) as writer:
        assert writer.append(note()) == 6
    assert seqs(read_all(tmp_path)) == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "events-000000000001.jsonl.zst",
        LIVE_NAME,
        "events.lock",
    ]


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from xoron_core.contract.writer import EventWriter;"
        "writer = EventWriter(Path(sys.argv[1]), 1); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(EventsLockedError, match="one writer"):
            EventWriter(tmp_path, 1)
        holder.kill()
        holder.wait()
        with EventWriter(tmp_path, 1), pytest.raises(EventsLockedError):
            EventWriter(tmp_path, 1)
        EventWriter(tmp_path, 1).close()


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
from xoron_core.contract.events import LogEvent
from xoron_core.contract.writer import EventWriter
directory, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with EventWriter(directory, 1) as writer:
    writer.append(LogEvent(level="info", message="before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    for number in range(5):
        writer.append(LogEvent(level="info", message=str(number) * 50))
    stalled, size = writer.is_stalled, (directory / "events.jsonl").stat().st_size
    whole = (directory / "events.jsonl").read_bytes().endswith(b"\\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    flushed = writer.flush()
    print(json.dumps([stalled, whole, flushed, writer.is_stalled]))
"""


@pytest.mark.parametrize("limit", [120, 200, 300, 400])
def test_a_full_disk_leaves_the_file_whole_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(told.stdout) == [True, True, True, False]
    assert [record["message"][:1] for record in read_all(tmp_path)] == ["b", "0", "1", "2", "3", "4"]
    assert "records wait in memory" in told.stderr


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    need_mounts(request)
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def test_a_disk_without_room_for_a_rotation_goes_on_later(disk: Path) -> None:
    ballast = disk / "ballast"
    with EventWriter(disk, 1, rotate_bytes=50_000) as writer:
        ballast.write_bytes(b"\0" * 120_000)
        while not writer.is_stalled:
            writer.append(note(random.Random(writer.last_seq).randbytes(400).hex()))
        writer.append(note("held"))
        assert seqs(read_all(disk)) == list(range(1, len(read_all(disk)) + 1))
        ballast.unlink()
        assert writer.flush()
        writer.append(note("after"))
        last = writer.last_seq
    assert seqs(read_all(disk)) == list(range(1, last + 1))


def test_a_disk_without_room_to_compress_is_written_on(disk: Path) -> None:
    with EventWriter(disk, 1) as writer:
        while writer.last_seq < 150:
            writer.append(note(random.Random(writer.last_seq).randbytes(400).hex()))
    (disk / LIVE_NAME).rename(disk / rotated_name(1))  # a rotation that was cut short
    ballast = Ballast(disk)
    ballast.leave(12_000)
    with EventWriter(disk, 2) as writer:
        assert writer.append(note("there is room for this")) == 151
        assert not writer.is_stalled
    ballast.drop()
    with EventWriter(disk, 3):
        assert [segment.path.suffix for segment in rotated_segments(disk)] == [".zst"]
    assert seqs(read_all(disk)) == list(range(1, 152))


def test_kinds_of_a_later_version_are_kept(tmp_path: Path) -> None:
    with EventWriter(tmp_path, 1) as writer:
        writer.append(note())
    record = {"seq": 2, "time": "2026-01-01T00:00:00.000Z", "attempt": 1, "kind": "hologram", "depth": [1, {"z": 2}]}
    with (tmp_path / LIVE_NAME).open("a") as file:
        file.write(json.dumps(record) + "\n")
    assert read_all(tmp_path)[-1] == record
    stamped = StampedEvent.model_validate(record)
    assert stamped.body() is None
    assert stamped.model_dump() == record


def test_a_writer_killed_in_the_middle_of_its_work_leaves_a_sound_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from xoron_core.contract.events import LogEvent;"
        "from xoron_core.contract.writer import EventWriter\n"
        "with EventWriter(Path(sys.argv[1]), 1, rotate_bytes=20000) as writer:\n"
        "    while True: writer.append(LogEvent(level='info', message='x' * 300))"
    )
    with EventTailer(tmp_path) as tailer:
        read: list[int] = []
        for _ in range(5):
            with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process:
                target = len(read) + 50
                while len(read) < target:
                    read += seqs(tailer.poll())
                    assert process.poll() is None
                process.kill()
            with EventWriter(tmp_path, 1) as writer:
                last = writer.last_seq
        while batch := tailer.poll():
            read += seqs(batch)
        assert read == list(range(1, last + 1))

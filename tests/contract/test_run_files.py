"""Run directories, homes, commands and process identities."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.full_disks import Ballast
from support.mounts import need_mounts, small_disk
from support.runs import begin_attempt, make_run, wait_for

from xoron_core.contract import clock
from xoron_core.contract.beat import Beat, BeatWriter, read_beat, reset_beat
from xoron_core.contract.commands import CommandBox, CommandKind
from xoron_core.contract.errors import CommandError, ConfigError, RunDirectoryError
from xoron_core.contract.files import write_atomic, write_new
from xoron_core.contract.home import Home, ServerLock
from xoron_core.contract.presets import resolve
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import RUN_ID, RunDirectory, new_record, new_run_id


def test_a_run_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    record = new_record("with ü", preset="demo", tags=["a"], idempotency_key="k", parent="p")
    run = RunDirectory.create(tmp_path, record, resolve("demo"))
    assert RunDirectory(run.path).record() == record
    assert run.config() == resolve("demo")
    begin_attempt(run)
    assert run.attempt(1).config == run.config().to_dict()
    assert (run.keeper(), run.exits().attempts) == (None, [])
    with pytest.raises(RunDirectoryError, match="already"):
        RunDirectory.create(tmp_path, record, resolve("demo"))
    with pytest.raises(FileExistsError):
        begin_attempt(run)


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "..", "a b", "a\n", "é", "a" * 64, ".hidden"])
def test_what_is_no_run_id(tmp_path: Path, name: str) -> None:
    record = new_record("x").model_copy(update={"id": name})
    with pytest.raises(RunDirectoryError, match="not of the form"):
        RunDirectory.create(tmp_path, record, resolve("demo"))
    with pytest.raises(RunDirectoryError, match="there is no run"):
        Home(tmp_path).run(name)
    assert list(tmp_path.iterdir()) == []


def test_new_ids_are_valid_and_differ() -> None:
    ids = {new_run_id() for _ in range(50)}
    assert len(ids) > 45
    assert all(RUN_ID.match(run_id) for run_id in ids)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", b"{", "malformed"),
        ("run.json", b"\xff\xfe", "malformed"),
        ("run.json", b"[]", "malformed"),
        ("run.json", None, "missing"),
        ("config.yaml", b"a: [", "malformed"),
        ("config.yaml", b"\xff\xfe\x00", "malformed"),
        ("config.yaml", None, "missing"),
        ("attempts/0001.yaml", b"a: {b", "malformed"),
        ("attempts/0001.yaml", b"attempt: 1", "malformed"),
        ("attempts/0001.yaml", None, "missing"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    run = make_run(tmp_path)
    begin_attempt(run)
    (run.path / name).unlink()
    if content is not None:
        (run.path / name).write_bytes(content)
    with pytest.raises(RunDirectoryError, match=f"{name}.* {words}"):
        if name == "run.json":
            run.record()
        elif name == "config.yaml":
            run.config()
        else:
            run.attempt(1)


def test_a_configuration_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.config_file.write_text("trainig: {}\n")
    with pytest.raises(ConfigError, match="did you mean 'training'"):
        run.config()


def test_another_contract_version_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    data = json.loads(run.run_file.read_text())
    run.run_file.write_text(json.dumps({**data, "contract_version": 99}))
    with pytest.raises(RunDirectoryError, match="contract version 99, this program knows 1"):
        run.record()


@pytest.mark.parametrize(
    "relative", ["../x", "samples/../../x", "/etc/passwd", "link/passwd", "link", "a\0b", "loop/x"]
)
def test_no_path_leads_out_of_a_run(tmp_path: Path, relative: str) -> None:
    run = make_run(tmp_path)
    (run.path / "link").symlink_to("/etc")
    (run.path / "loop").symlink_to("loop")
    with pytest.raises(RunDirectoryError, match=r"leads out|not a path"):
        run.inside(relative)


def test_paths_inside_a_run_are_found_through_a_linked_home(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    run = make_run(tmp_path / "home")
    assert run.inside("samples/../samples/a.png") == tmp_path / "real" / run.id / "samples" / "a.png"
    assert run.inside("step-é/ü.png").name == "ü.png"


def _post_many(directory: Path, kind: CommandKind) -> None:
    box = CommandBox(directory)
    for _ in range(50):
        box.post(kind, attempt=1)


def test_commands_of_two_processes_all_arrive(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    kinds = [CommandKind.SAMPLE, CommandKind.CHECKPOINT]
    processes = [context.Process(target=_post_many, args=(tmp_path, kind)) for kind in kinds]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    commands = list(CommandBox(tmp_path).after(0))
    assert [command.id for command in commands] == list(range(1, 101))
    assert [sum(command.kind is kind for command in commands) for kind in kinds] == [50, 50]
    assert [command.id for command in CommandBox(tmp_path).after(98)] == [99, 100]
    assert len(list(tmp_path.iterdir())) == 100


@pytest.mark.parametrize(
    "content", [b"{}", b'{"kind": "st\xff"}', b'{"id": 1, "time": "", "attempt": 1, "kind": "stop"}']
)
def test_a_file_that_is_no_command_is_named(tmp_path: Path, content: bytes) -> None:
    box = CommandBox(tmp_path)
    box.post(CommandKind.STOP, attempt=1, save=False)
    (tmp_path / "00000002.json").write_bytes(content)
    commands = box.after(0)
    assert next(commands).save is False
    with pytest.raises(CommandError, match=r"00000002\.json is not a command") as caught:
        next(commands)
    assert caught.value.id == 2
    assert list(box.after(2)) == []


def test_files_with_other_names_are_no_commands(tmp_path: Path) -> None:
    box = CommandBox(tmp_path)
    for name in ("1.json", "000000009.json", "00000003.json.part", "0000000².json"):
        (tmp_path / name).write_text("{}")
    assert box.post(CommandKind.STOP, attempt=1).id == 1
    assert [command.id for command in box.after(0)] == [1]


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    mine = ProcessIdentity.of_self()
    assert mine.is_alive()
    assert not mine.model_copy(update={"start_ticks": mine.start_ticks - 1}).is_alive()
    assert not mine.model_copy(update={"boot_id": "another"}).is_alive()


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(child.pid)
    assert identity is not None
    assert identity.is_alive()
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert not identity.is_alive()
    assert ProcessIdentity.of(child.pid) is None
    child.communicate()
    assert not identity.is_alive()


def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        identity = wait_for(lambda: ProcessIdentity.of(child.pid))
        assert identity is not None
        assert identity.is_alive()
    finally:
        child.kill()
        child.wait()


def test_a_home_has_one_server(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    lock = ServerLock(home)
    with pytest.raises(RunDirectoryError, match=f"served already, by process {os.getpid()}"):
        ServerLock(home)
    lock.release()
    ServerLock(home).release()


def test_a_home_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="set XORON_HOME or --home"):
        Home(tmp_path / "file" / "home").prepare()


def test_a_home_lists_runs_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.run_directories() == []
    home.prepare()
    runs = sorted([make_run(home.runs).id, make_run(home.runs).id])
    (home.runs / "half-made").mkdir()
    (home.runs / "file").touch()
    assert [run.id for run in home.run_directories()] == runs
    assert home.run(runs[0]).record().id == runs[0]
    with pytest.raises(RunDirectoryError, match="no run 'half-made'"):
        home.run("half-made")
    assert home.free_gib() > 0


def test_files_are_replaced_whole_and_never_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_new(path, "one")
    with pytest.raises(FileExistsError):
        write_new(path, "two")
    assert path.read_text() == "one"
    write_atomic(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_times_are_utc_with_milliseconds() -> None:
    text = clock.now()
    assert len(text) == len("2026-01-31T12:00:00.000Z")
    assert clock.format_time(clock.parse_time(text)) == text
    assert clock.format_time(clock.parse_time("2026-01-31T13:00:00.5+01:00")) == "2026-01-31T12:00:00.500Z"


def test_a_request_to_end_reaches_the_attempts_that_follow_by_themselves(tmp_path: Path) -> None:
    box = CommandBox(tmp_path)
    stop, sample = box.post(CommandKind.STOP, attempt=2), box.post(CommandKind.SAMPLE, attempt=2)
    assert stop.is_for(2, first=2)
    assert stop.is_for(3, first=2), "the attempt crashed meanwhile and another followed"
    assert not stop.is_for(3, first=3), "a person resumed the run after that"
    assert not stop.is_for(1, first=1)
    assert sample.is_for(2, first=2)
    assert not sample.is_for(3, first=2)


def test_the_beat_tells_count_and_step(tmp_path: Path) -> None:
    path = tmp_path / "beat"
    assert read_beat(path) == Beat(0, 0)
    writer = BeatWriter(path)
    for step in (1, 1, 2):
        writer.beat(step)
    assert read_beat(path) == Beat(3, 2)
    writer.close()


def test_a_disk_that_is_full_since_the_beat_was_reset_takes_it(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    need_mounts(request)
    with small_disk(tmp_path / "disk") as disk:
        reset_beat(disk / "beat")
        Ballast(disk).leave(0)
        with closing(BeatWriter(disk / "beat")) as writer:
            writer.beat(3)
        assert read_beat(disk / "beat") == Beat(1, 3)
        reset_beat(disk / "beat")
        assert read_beat(disk / "beat") == Beat(0, 0)
        reset_beat(disk / "another")
        assert read_beat(disk / "another") == Beat(0, 0), "whoever may not write it waits for room elsewhere"

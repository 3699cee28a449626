"""The keeper's parts: what an end means, what reaches the log, what belongs to a trainer."""

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import wait_for

from server.runs.keeping import processes
from server.runs.keeping.ending import Ending, Pressure, TrainerExit, decide, judge, last_state, shortest_path
from server.runs.keeping.output import LogFile, secret_pattern
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.derive import LastState
from xoron_core.contract.events import LogEvent, StateEvent
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.presets import resolve
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.states import ENDED, LIVE, RunState, check_transition
from xoron_core.contract.writer import EventWriter

AT_REST = {*ENDED, RunState.PAUSED} - {RunState.INTERRUPTED}
TIME = "2026-01-01T00:00:00.000Z"
NOTHING = Pressure()


def ending_of(end: TrainerExit, last: RunState, pressure: Pressure = NOTHING) -> Ending:
    """What an end leads to after the state that was written last."""
    return decide(judge(end, pressure), LastState(last, 1, TIME))


@given(
    last=st.sampled_from(sorted(LIVE)),
    returncode=st.one_of(st.integers(-64, 255), st.sampled_from([int(code) for code in ExitCode])),
    asked=st.sampled_from([None, CommandKind.STOP, CommandKind.PAUSE, CommandKind.CANCEL]),
    sent=st.sets(st.sampled_from([int(signal.SIGTERM), int(signal.SIGKILL)])),
)
def test_every_end_leads_to_rest_by_legal_steps(
    last: RunState, returncode: int, asked: CommandKind | None, sent: set[int]
) -> None:
    pressure = Pressure(asked, frozenset(sent), "because")
    ending = ending_of(TrainerExit.of(returncode, ""), last, pressure)
    for old, new in itertools.pairwise([last, *ending.path]):
        check_transition(old, new)
    assert ending.path[-1] is ending.state
    assert ending.state in AT_REST
    if ending.state is RunState.FAILED:
        assert ending.reason


@pytest.mark.parametrize(
    ("last", "code", "path"),
    [
        ("running", ExitCode.COMPLETED, ["completed"]),
        ("running", ExitCode.STOPPED, ["stopping", "stopped"]),
        ("running", ExitCode.CANCELLED, ["stopping", "cancelled"]),
        ("running", ExitCode.PAUSED, ["pausing", "paused"]),
        ("starting", ExitCode.STOPPED, ["stopping", "stopped"]),
        ("pausing", ExitCode.STOPPED, ["stopping", "stopped"]),
        ("pausing", ExitCode.CANCELLED, ["stopping", "cancelled"]),
        ("stopping", ExitCode.COMPLETED, ["stopped"]),
        ("pausing", ExitCode.COMPLETED, ["paused"]),
        ("running", ExitCode.ROLLBACK, ["failed"]),
        ("stopping", 1, ["failed"]),
        ("completed", 0, []),
    ],
)
def test_states_on_the_way_to_an_end(last: str, code: int, path: list[str]) -> None:
    assert list(ending_of(TrainerExit(code, None, ""), RunState(last)).path) == path


def test_a_signal_that_the_keeper_did_not_send_is_a_failure() -> None:
    asked = Pressure(CommandKind.STOP, frozenset({signal.SIGTERM}), "asked")
    ending = ending_of(TrainerExit(None, signal.SIGSEGV, "loading"), RunState.STOPPING, asked)
    assert (ending.state, ending.reason) == (
        RunState.FAILED,
        "the trainer was killed by SIGSEGV; its last line: loading",
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("xoron_core.contract.errors.ConfigError: data: no file a.b.C", "ConfigError: data: no file a.b.C"),
        ("torch.OutOfMemoryError: no room", "OutOfMemoryError: no room"),
        ("ValueError: x.y.Z: 1", "ValueError: x.y.Z: 1"),
        ("see docs.example.Page for more", "see docs.example.Page for more"),
    ],
)
def test_a_reason_does_not_say_where_its_error_class_lives(line: str, reason: str) -> None:
    assert judge(TrainerExit(1, None, line), Pressure()).reason == reason


def test_there_is_no_way_from_a_final_state() -> None:
    assert shortest_path(RunState.CANCELLED, RunState.STOPPED) is None


def test_the_last_state_is_found_across_rotations(tmp_path: Path) -> None:
    assert last_state(tmp_path) is None
    with EventWriter(tmp_path, 3, rotate_bytes=300) as writer:
        writer.append(StateEvent(state=RunState.STARTING))
        writer.append(StateEvent(state=RunState.RUNNING, reason="go"))
        for _ in range(20):
            writer.append(LogEvent(level="info", message='a message with "kind":"state" in it'))
    assert len(list(tmp_path.glob("events-*"))) > 1
    found = last_state(tmp_path)
    assert found is not None
    assert (found.state, found.attempt, found.reason) == (RunState.RUNNING, 3, "go")


SECRETS = secret_pattern({"HF_TOKEN": "topsecret1", "DB_PASSWORD": "a\nlonger line", "KEYS": "123", "PATH": "/usr/bin"})


@given(
    pieces=st.lists(
        st.sampled_from(["topsecret1", "longer line", "x", "\n", "\r", "hf_ABCDEFGH1234", "é"]), max_size=30
    ),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_no_cut_lets_a_secret_through(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "train.log"
    log = LogFile(path, SECRETS)
    data = "".join(pieces).encode()
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(ends):
        log.feed(data[start:end])
    log.close()
    text = path.read_text(encoding="utf-8")
    assert "topsecret1" not in text
    assert "longer line" not in text
    assert "hf_ABCDEFGH" not in text
    assert text.count("é") == pieces.count("é")


def test_short_values_and_other_variables_are_let_be(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "train.log", SECRETS)
    log.feed(b"123 /usr/bin\n")
    log.close()
    assert (tmp_path / "train.log").read_text() == "123 /usr/bin\n"


def test_an_endless_line_is_written_before_it_ends_without_its_secret(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "train.log", SECRETS)
    log.feed(b"x" * 65_530 + b"topse")
    log.feed(b"cret1" + b"y" * 70_000)
    assert (tmp_path / "train.log").stat().st_size > 100_000
    log.close()
    text = (tmp_path / "train.log").read_text()
    assert text == "x" * 65_530 + "[redacted]" + "y" * 70_000 + "\n"


def test_the_log_rotates_and_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from server.runs.keeping.output import LogFile, secret_pattern;"
        "log = LogFile(Path(sys.argv[1]), secret_pattern({}), rotate_bytes=1000);"
        "[log.feed(b'line %d\\n' % i) for i in range(300)]; log.close();"
        "print('an interpreter speaks', file=sys.stderr)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "train.log")], check=True)
    new = (tmp_path / "train.log").read_text().splitlines()
    old = (tmp_path / "train.log.1").read_text().splitlines()
    assert new[-1] == "an interpreter speaks"
    assert [*old, *new[:-1]] == [f"line {i}" for i in range(300 - len(old) - len(new) + 1, 300)]
    assert 900 < (tmp_path / "train.log.1").stat().st_size < 1100


def test_a_log_that_cannot_be_rotated_is_rotated_later(tmp_path: Path) -> None:
    code = (
        "import os, resource, sys; from pathlib import Path;"
        "from server.runs.keeping.output import LogFile, secret_pattern;"
        "path = Path(sys.argv[1]); log = LogFile(path, secret_pattern({}), rotate_bytes=5); log.feed(b'first\\n');"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1])); log.feed(b'second\\n');"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limits);"
        "other = os.open(path.with_name('other'), os.O_RDWR | os.O_CREAT); log.feed(b'third\\n'); log.close();"
        "print(os.fstat(other).st_size)"
    )
    path = tmp_path / "train.log"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert done.stdout == "0\n", "another file that was opened since is let be"
    assert path.with_name("train.log.1").read_text().splitlines()[0] == "first"
    assert path.read_text() == "third\n"


def test_a_disk_that_refuses_loses_lines_and_says_how_many(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from server.runs.keeping.output import LogFile, secret_pattern;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "log = LogFile(Path(sys.argv[1]), secret_pattern({}));"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1];"
        "log.feed(b'first\\n'); resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard)); log.feed(b'lost\\n');"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)); log.feed(b'last\\n'); log.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "train.log")], check=True)
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert lines == ["first", "[keeper] 5 bytes of output were lost: the disk refused them", "last"]


@pytest.mark.parametrize(
    ("output", "last_line"),
    [
        (b"one\ntwo\n\n", "two"),
        (b"10%\r20%\r", "20%"),
        (b"\x1b[31mred\x1b[0m\n", "red"),
        (b"no newline", "no newline"),
        (b"\xff\xfe\n", "��"),
        (b"w" * 600 + b"\n", "w" * 500),
        (b"", ""),
    ],
)
def test_the_last_line_is_readable(tmp_path: Path, output: bytes, last_line: str) -> None:
    log = LogFile(tmp_path / "train.log", SECRETS)
    log.feed(output)
    log.say("a word of the keeper's own")
    log.close()
    assert log.last_line == last_line


def test_descendants_and_marks_are_found(tmp_path: Path) -> None:
    config = resolve("demo", {"resources": {"threads": 3}})
    environment = processes.trainer_environment(os.environ, tmp_path, config, [])
    assert environment["OMP_NUM_THREADS"] == "3"
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment) as child:
        wait_for(lambda: len(processes.descendants(child.pid)) == 1)
        grandchild = processes.descendants(child.pid)
        assert processes.descendants(os.getpid()) >= {child.pid, *grandchild}
        wait_for(lambda: processes.marked(tmp_path) == {child.pid, *grandchild})
        assert processes.marked(tmp_path / "other") == set()
        assert child.stdin is not None
        child.stdin.write(b"\n")
    assert processes.descendants(child.pid) == set()
    assert child.pid not in processes.descendants(os.getpid())


def test_processes_that_proc_hides_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def hidden(path: Path, *words: str, **named: str) -> str:
        if path.is_relative_to("/proc/1"):  # as with hidepid=1 and a user who is not root
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        return read(path, *words, **named)

    monkeypatch.setattr(Path, "read_text", hidden)
    assert ProcessIdentity.of(1) is None
    assert ProcessIdentity.of_self().is_alive()
    assert 1 not in processes.descendants(0)
    assert 1 not in processes.children(0)
    assert processes.stopped({1}) == set()
    assert processes.catching({1}, signal.SIGTERM) == set()


def test_a_process_that_has_become_another_users_is_let_be() -> None:
    code = (
        "import os, signal; from server.runs.keeping import processes;"
        "os.getuid() or os.setresuid(65534, 65534, 65534);"
        "processes.send({1}, signal.SIGURG)"  # which is ignored where it may be sent
    )
    subprocess.run([sys.executable, "-c", code], check=True)

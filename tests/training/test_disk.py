"""A disk without room: training stands still, says why, and goes on by itself."""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.attempts import begin, of_kind, phases
from support.full_disks import Ballast
from support.mounts import need_mounts, small_disk
from support.runs import events, wait_for
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.beat import read_beat
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.errors import CheckpointError
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import read_checkpoint
from xoron_core.training.control import Control, EndRequest, NoEvents
from xoron_core.training.disk import REST_PER_TRY, RETRY_S, Disk
from xoron_core.training.metrics import now
from xoron_core.training.process import run_attempt

DISK_SIZE = "64m"
LITTLE = 1_000_000
"""Enough for events, too little for a checkpoint."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    need_mounts(request)
    with small_disk(tmp_path / "disk", DISK_SIZE) as folder:
        yield folder


@contextmanager
def meanwhile(*actions: Callable[[], object]) -> Iterator[None]:
    """Do these things one after the other while this test trains; what goes wrong in them fails it."""
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(lambda: [action() for action in actions])
        yield
    done.result()


def when_waiting(run: RunDirectory, number: int = 1) -> Callable[[], object]:
    """Wait until training stands still for that often."""
    return lambda: wait_for(lambda: phases(run).count("waiting") >= number, 60)


def ask(run: RunDirectory, kind: CommandKind, *, save: bool = True) -> Callable[[], object]:
    return lambda: run.commands.post(kind, 1, save=save)


def troubles(run: RunDirectory) -> list[tuple[str, str]]:
    return [(event["action"], event["reason"]) for event in of_kind(run, "trouble")]


def started(disk: Path, corpus: Path, free_bytes: int, **training: Any) -> tuple[RunDirectory, Ballast]:
    """A run on a disk that has so much room left."""
    config = tiny_config(corpus, **training)
    run = begin(disk, config)
    ballast = Ballast(disk)
    ballast.leave(free_bytes)
    return run, ballast


def test_a_periodic_checkpoint_without_room_is_written_when_there_is_some(disk: Path, corpus: Path) -> None:
    run, ballast = started(disk, corpus, LITTLE, max_steps=4, save_steps=2)
    with meanwhile(when_waiting(run), ballast.drop):
        assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert [(event["step"], event["reason"]) for event in of_kind(run, "checkpoint")] == [
        (2, "periodic"),
        (4, "periodic"),
    ]
    assert [event["step"] for event in of_kind(run, "metrics")] == [1, 2, 3, 4]
    ((action, reason),) = troubles(run)
    assert action == "pause"
    assert "0.00 GiB are free, 0.01 are needed (a checkpoint and trouble.min_free_disk_gib); make room" in reason
    assert [event["detail"] for event in of_kind(run, "phase") if event["phase"] == "waiting"] == [reason]
    assert "there is room again" in of_kind(run, "log")[-1]["message"]
    read_checkpoint(run.checkpoint_dir(2))


@contextmanager
def small_files_only(num_bytes: int) -> Iterator[Callable[[], None]]:
    """Writing more to one file fails, as a disk does that fills up meanwhile; until the function that this gives is
    called."""
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_fills_up_during_a_checkpoint_keeps_nothing_of_it(tmp_path: Path, corpus: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus, max_steps=4, save_steps=2))
    left: list[str] = []
    with (
        small_files_only(200_000) as lift,
        meanwhile(when_waiting(run), lambda: left.extend(path.name for path in run.checkpoints.iterdir()), lift),
    ):
        assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert left == []
    assert "cannot write" in troubles(run)[0][1]
    assert [event["step"] for event in of_kind(run, "checkpoint")] == [2, 4]


@pytest.mark.parametrize("name", [".step-00000002.partial", ".step-00000002.retired"])
def test_what_a_killed_save_left_gives_its_room_back(disk: Path, corpus: Path, name: str) -> None:
    config = tiny_config(corpus, {"trouble": {"min_free_disk_gib": 0.02}}, max_steps=2, save_steps=2)
    run = begin(disk, config)
    left = run.checkpoints / name
    left.mkdir()
    Ballast(left).leave(LITTLE)
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert troubles(run) == []
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000002"]


def test_an_ending_checkpoint_waits_for_room(disk: Path, corpus: Path) -> None:
    run, ballast = started(disk, corpus, LITTLE, max_steps=100_000, num_epochs=100_000)
    with meanwhile(
        lambda: wait_for(lambda: of_kind(run, "metrics"), 60),
        ask(run, CommandKind.STOP),
        when_waiting(run),
        ballast.drop,
    ):
        assert run_attempt(run, 1) == ExitCode.STOPPED
    assert phases(run)[-6:] == ["requested", "draining", "saving", "waiting", "verified", "closing"]
    assert of_kind(run, "checkpoint")[-1]["reason"] == "ending"


def test_a_signal_breaks_the_wait_for_an_ending_checkpoint_off(disk: Path, corpus: Path) -> None:
    run, _ = started(disk, corpus, LITTLE, max_steps=100_000, num_epochs=100_000, save_steps=2)
    with (
        meanwhile(
            when_waiting(run),
            ask(run, CommandKind.PAUSE),
            when_waiting(run, 2),
            lambda: os.kill(os.getpid(), signal.SIGTERM),
        ),
        pytest.raises(CheckpointError, match=r"no checkpoint at step 2: .*are needed"),
    ):
        run_attempt(run, 1)
    assert list(run.checkpoints.iterdir()) == []
    (end,) = run.rank_ends(1)
    assert end.code == 1, "no checkpoint that was there is damaged"


def test_a_request_to_end_without_a_checkpoint_needs_no_room(disk: Path, corpus: Path) -> None:
    run, _ = started(disk, corpus, LITTLE, max_steps=100_000, num_epochs=100_000, save_steps=2)
    with meanwhile(when_waiting(run), ask(run, CommandKind.CANCEL, save=False)):
        assert run_attempt(run, 1) == ExitCode.CANCELLED
    assert of_kind(run, "checkpoint") == []


def test_who_waits_for_an_ending_checkpoint_may_do_without(disk: Path, corpus: Path) -> None:
    run, _ = started(disk, corpus, LITTLE, max_steps=100_000, num_epochs=100_000, save_steps=2)
    stop = CommandKind.STOP
    with meanwhile(when_waiting(run), ask(run, stop), when_waiting(run, 2), ask(run, stop, save=False)):
        assert run_attempt(run, 1) == ExitCode.STOPPED
    assert of_kind(run, "checkpoint") == []


def test_training_stands_still_below_the_limit_and_gives_signs_of_life(disk: Path, corpus: Path) -> None:
    config = tiny_config(corpus, {"trouble": {"min_free_disk_gib": 0.02}}, max_steps=3)
    run = begin(disk, config)
    ballast = Ballast(disk)
    ballast.leave(10_000_000)
    seen: list[int] = []

    def look_twice() -> None:
        first = read_beat(run.beat_file).count
        wait_for(lambda: read_beat(run.beat_file).count > first + 1)
        seen.append(len(of_kind(run, "metrics")))

    with meanwhile(when_waiting(run), look_twice, ballast.drop):
        assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert seen == [0], "a step was done meanwhile"
    assert "0.02 are needed (trouble.min_free_disk_gib)" in troubles(run)[0][1]


def test_whoever_gives_up_waiting_does_not_have_to_see_it_tried_again(tmp_path: Path) -> None:
    control, tries = Control(), []

    def full() -> str:
        tries.append(now())
        control.signals.note(EndRequest(CommandKind.STOP, save=False, reason="a test"))
        return "full"

    assert Disk(tmp_path, 0.0, NoEvents()).wait(full, control, lambda: control.end is not None) == "full"
    assert len(tries) == 1


class Counting(Control):
    """Counts how often requests are looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.num_polls = 0

    def poll(self) -> None:
        self.num_polls += 1
        super().poll()


def test_what_takes_long_to_fail_is_tried_less_often_and_requests_are_heard_all_the_same(tmp_path: Path) -> None:
    control, tries = Counting(), []
    took_s = 3 * RETRY_S / REST_PER_TRY

    def slow() -> str | None:
        tries.append((now(), control.num_polls))
        time.sleep(took_s)  # as long as a large checkpoint takes until the disk refuses it
        return "full" if len(tries) == 1 else None

    assert Disk(tmp_path, 0.0, NoEvents()).wait(slow, control, lambda: False) is None
    (first, _), (second, num_polls) = tries
    assert second - first >= took_s + 3 * RETRY_S
    assert num_polls >= 3


def test_events_that_the_disk_refuses_are_all_there_afterwards(disk: Path, corpus: Path) -> None:
    run, ballast = started(disk, corpus, LITTLE, max_steps=30)

    def fill() -> None:
        wait_for(lambda: of_kind(run, "metrics"), 60)
        ballast.leave(0)
        first = wait_for(lambda: (beat := read_beat(run.beat_file)).step and beat)
        wait_for(lambda: read_beat(run.beat_file).count > first.count + 3 and is_still(run))
        ballast.drop()

    with meanwhile(fill):
        assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert [event["seq"] for event in events(run)] == list(range(1, len(events(run)) + 1))
    assert [event["step"] for event in of_kind(run, "metrics")] == list(range(1, 31))
    assert any("the disk refuses the run's events" in reason for _, reason in troubles(run))


def is_still(run: RunDirectory) -> bool:
    """Whether signs of life come from the same step again and again."""
    first = read_beat(run.beat_file)
    wait_for(lambda: read_beat(run.beat_file).count > first.count + 1)
    return read_beat(run.beat_file).step == first.step

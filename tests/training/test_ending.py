"""How a run ends: requests, their phases, and which of two requests counts."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.attempts import begin, begin_next, of_kind, phases
from support.runs import states
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract import clock
from xoron_core.contract.beat import BeatWriter
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError
from xoron_core.contract.events import Event, PhaseEvent
from xoron_core.contract.exit_codes import ExitCode, Failure
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.writer import EventWriter
from xoron_core.distributed.ranks import Alone
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control, EndRequest, RunControl, Signals
from xoron_core.training.hooks import Hook, standard_hooks
from xoron_core.training.process import run_attempt
from xoron_core.training.trainer import XoronTrainer

SIGTERM = EndRequest(CommandKind.STOP, save=True, reason="SIGTERM received")
END = ["requested", "draining", "saving", "verified", "closing"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


class At(Hook):
    """Does something after a step, in the order of hooks where it was put."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step = step
        self.action = action

    def after_step(self, trainer: XoronTrainer) -> None:
        if trainer.global_step == self.step:
            self.action()


class ActingEvents:
    """The events of a run, with something that happens right after the first of some kind."""

    def __init__(self, told: EventWriter, phase: str, action: Callable[[], object]) -> None:
        self.told = told
        self.phase = phase
        self.action: Callable[[], object] | None = action

    @property
    def is_stalled(self) -> bool:
        return self.told.is_stalled

    def flush(self) -> bool:
        return self.told.flush()

    def append(self, event: Event) -> int:
        number = self.told.append(event)
        if isinstance(event, PhaseEvent) and event.phase == self.phase and self.action is not None:
            action, self.action = self.action, None
            action()
        return number


def train_with(
    run: RunDirectory, config: RunConfig, phase: str, action: Callable[[], object], *extra: Hook
) -> EndRequest | None:
    """Train a run; the action happens when the phase is told."""
    with EventWriter(run.path, 1) as told, ExitStack() as resources:
        acting = ActingEvents(told, phase, action)
        beat = resources.enter_context(closing(BeatWriter(run.beat_file)))
        control = RunControl(run.commands, 1, 1, acting, beat, config.trouble.stop_grace_s)
        hooks = [*extra, *standard_hooks(config, run, acting)]
        return build_trainer(config, hooks, control, None, lambda phase: None, resources).train()


def test_a_stop_goes_through_its_phases_and_leaves_a_checkpoint_that_was_read_back(
    corpus: Path, tmp_path: Path
) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    stop = At(3, lambda: run.commands.post(CommandKind.STOP, 1))
    end = train_with(run, config, "none", lambda: None, stop)
    assert end is not None
    assert phases(run)[-5:] == END
    (command,) = run.commands.after(0)
    requested = next(event for event in of_kind(run, "phase") if event["phase"] == "requested")
    expected = clock.parse_time(command.time) + timedelta(seconds=config.trouble.stop_grace_s)
    assert clock.parse_time(requested["deadline"]) == expected
    assert states(run) == ["running", "stopping"]
    assert of_kind(run, "checkpoint")[-1]["reason"] == "ending"


def test_ten_stops_are_one_stop_and_each_is_answered(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    stops = At(2, lambda: [run.commands.post(CommandKind.STOP, 1) for _ in range(10)])
    train_with(run, config, "none", lambda: None, stops)
    assert [(event["id"], event["status"]) for event in of_kind(run, "command")] == [
        (number, "accepted") for number in range(1, 11)
    ]
    assert phases(run)[-5:] == END
    assert states(run) == ["running", "stopping"]


def test_a_stop_replaces_a_pause_and_a_cancel_both_and_never_the_reverse(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    kinds = [CommandKind.PAUSE, CommandKind.STOP, CommandKind.CANCEL, CommandKind.STOP, CommandKind.PAUSE]
    end = train_with(run, config, "none", lambda: None, At(2, lambda: [run.commands.post(kind, 1) for kind in kinds]))
    assert end is not None
    assert end.kind is CommandKind.CANCEL
    assert states(run) == ["running", "pausing", "stopping"]
    assert phases(run).count("requested") == 3


def test_a_stronger_request_does_not_move_the_deadline() -> None:
    control = Control()
    first, later = "2026-01-01T00:01:00.000Z", "2026-01-01T00:01:50.000Z"
    control.request_end(EndRequest(CommandKind.PAUSE, save=True, reason="pause requested", deadline=first))
    control.request_end(EndRequest(CommandKind.STOP, save=True, reason="stop requested", deadline=later))
    assert control.end is not None
    assert (control.end.kind, control.end.deadline) == (CommandKind.STOP, first)


@pytest.mark.parametrize("phase", ["evaluating", "sampling", "saving"])
def test_a_request_in_every_phase_is_taken_up_in_it(corpus: Path, tmp_path: Path, phase: str) -> None:
    config = tiny_config(corpus, eval_steps=2, sample_steps=2, save_steps=2)
    run = begin(tmp_path, config)
    end = train_with(run, config, phase, lambda: run.commands.post(CommandKind.PAUSE, 1))
    assert end is not None
    seen = phases(run)
    assert "training" not in seen[seen.index("requested") :]
    assert [name for name in seen[seen.index("requested") :] if name in END][-5:] == END
    assert of_kind(run, "metrics")[-1]["step"] == 2
    assert of_kind(run, "checkpoint")[-1]["step"] == 2


def test_a_stop_while_the_ending_checkpoint_of_a_pause_is_written_counts(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    pause = At(2, lambda: run.commands.post(CommandKind.PAUSE, 1))
    end = train_with(run, config, "saving", lambda: run.commands.post(CommandKind.STOP, 1), pause)
    assert end is not None
    assert end.kind is CommandKind.STOP
    assert states(run) == ["running", "pausing", "stopping"]


def test_a_signal_that_enforces_a_pause_makes_no_stop_of_it(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    signals = Signals()
    with EventWriter(run.path, 1) as told, closing(BeatWriter(run.beat_file)) as beat:
        control = RunControl(run.commands, 1, 1, told, beat, 60.0, signals)
        run.commands.post(CommandKind.PAUSE, 1)
        for _ in range(2):  # it may come before the trainer has seen the command, and after
            signals.note(SIGTERM)
            control.poll()
            assert control.end is not None
            assert control.end.kind is CommandKind.PAUSE
    assert signals.count == 2, "whoever waits for something is to see it"
    assert states(run) == ["pausing"]


class Asked(Alone):
    """Several ranks, and what each of them was asked."""

    def __init__(self, *requests: EndRequest | None) -> None:
        self.requests = list(requests)

    def largest(self, number: int) -> int:
        return 1

    def gather(self, item: Any) -> list[Any]:
        return self.requests


def test_several_ranks_do_what_the_first_was_asked_and_a_signal_makes_no_stop_of_it(
    corpus: Path, tmp_path: Path
) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    with EventWriter(run.path, 1) as told, closing(BeatWriter(run.beat_file)) as beat:
        first = RunControl(run.commands, 1, 1, told, beat, 60.0, has_launcher=True)
        second = Control(Signals())
        second.signals.note(SIGTERM)
        second.poll()
        assert second.end == SIGTERM
        run.commands.post(CommandKind.PAUSE, 1)
        first.poll()
        pause = first.end
        for _ in range(2):
            for control in (first, second):
                assert control.agree(Asked(pause, SIGTERM)) == pause
            second.signals.note(SIGTERM)
            second.poll()
    assert pause is not None
    assert pause.kind is CommandKind.PAUSE
    assert (states(run), phases(run)) == (["pausing"], ["requested"])
    assert Control().agree(Asked(None, SIGTERM)) == SIGTERM


def test_an_end_without_a_checkpoint_saves_and_verifies_nothing(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    cancel = At(2, lambda: run.commands.post(CommandKind.CANCEL, 1, save=False))
    train_with(run, config, "none", lambda: None, cancel)
    assert phases(run)[-3:] == ["requested", "draining", "closing"]
    assert of_kind(run, "checkpoint") == []


def test_an_ending_checkpoint_that_reads_back_otherwise_is_no_orderly_end(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=2, save_steps=2)
    run = begin(tmp_path, config)

    def spoil() -> None:
        (run.checkpoint_dir(2) / "state.json").write_text("{}")

    with EventWriter(run.path, 1) as told, ExitStack() as resources:
        beat = resources.enter_context(closing(BeatWriter(run.beat_file)))
        control = RunControl(run.commands, 1, 1, told, beat, 60.0)
        hooks = [*standard_hooks(config, run, told), At(2, spoil)]
        trainer = build_trainer(config, hooks, control, None, lambda phase: None, resources)
        with pytest.raises(CheckpointError, match=r"state\.json"):
            trainer.train()
    assert "verified" not in phases(run)


def test_a_request_in_the_set_up_leaves_it_at_the_next_phase(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    run.commands.post(CommandKind.STOP, 1)
    assert run_attempt(run, 1) == ExitCode.STOPPED
    assert phases(run) == ["setup", "requested", "closing"]
    assert states(run) == ["stopping"]


def test_a_request_to_end_that_a_crash_overtook_ends_the_attempt_that_follows(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    run.commands.post(CommandKind.CHECKPOINT, 1)
    run.commands.post(CommandKind.STOP, 1)
    begin_next(run, config, 2, cause=Failure.CRASH)
    assert run_attempt(run, 2) == ExitCode.STOPPED
    assert [(event["id"], event["status"]) for event in of_kind(run, "command")] == [(2, "accepted")]


def test_a_request_of_before_a_person_resumed_is_over(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=1)
    run = begin(tmp_path, config)
    run.commands.post(CommandKind.STOP, 1)
    begin_next(run, config, 2, cause="resumed")
    assert run_attempt(run, 2) == ExitCode.COMPLETED
    assert of_kind(run, "command") == []


def test_a_request_while_a_checkpoint_is_read_is_heard_meanwhile(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=1)
    run = begin(tmp_path, config)
    assert run_attempt(run, 1) == ExitCode.COMPLETED

    def on_phase(phase: str) -> None:
        if phase == "restoring":
            run.commands.post(CommandKind.STOP, 2)

    with EventWriter(run.path, 2) as told, ExitStack() as resources:
        beat = resources.enter_context(closing(BeatWriter(run.beat_file)))
        control = RunControl(run.commands, 2, 2, told, beat, 60.0)
        build_trainer(config, [], control, run.checkpoint_dir(1), on_phase, resources)
        assert control.end is not None
    assert phases(run)[-1] == "requested"

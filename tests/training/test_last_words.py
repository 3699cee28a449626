"""What a trainer leaves behind when it ends: its exit status, its last words, the stacks of its threads."""

import errno
import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support.attempts import begin, begin_next, of_kind, started, train
from support.runs import wait_for
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.beat import read_beat
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.errors import (
    AnotherFormatError,
    CheckpointError,
    ConfigError,
    DataError,
    EventsLockedError,
    NonFiniteError,
    RunDirectoryError,
)
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.writer import EventWriter
from xoron_core.distributed.ranks import PeerLostError
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control
from xoron_core.training.errors import (
    AnotherModelError,
    DamagedCheckpointError,
    StepsNotFiniteError,
)
from xoron_core.training.hooks import standard_hooks
from xoron_core.training.last_words import CRASHED, exit_code
from xoron_core.training.process import run_attempt
from xoron_core.training.trainer import XoronTrainer


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tiny_corpus(tmp_path / "corpus")


def test_memory_that_the_host_does_not_have_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8).fill_(1)
    assert exit_code(caught.value) == ExitCode.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), ExitCode.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), ExitCode.OUT_OF_MEMORY),
        (MemoryError(), ExitCode.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ExitCode.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), CRASHED),
        (StepsNotFiniteError("6 steps", 3, ["a[1]"]), ExitCode.ROLLBACK),
        (NonFiniteError("6 steps"), ExitCode.ROLLBACK),
        (DamagedCheckpointError("lacks model"), ExitCode.DAMAGED_CHECKPOINT),
        (AnotherFormatError("has format 2"), ExitCode.REFUSED),
        (AnotherModelError("of another model"), ExitCode.REFUSED),
        (CheckpointError("cannot write"), CRASHED),
        (ConfigError.of("training", "no"), ExitCode.REFUSED),
        (DataError("text", 1, "no"), ExitCode.REFUSED),
        (RunDirectoryError("malformed"), ExitCode.REFUSED),
        (EventsLockedError("held"), CRASHED),
        (PeerLostError("gone"), ExitCode.PEER_LOST),
        (RuntimeError("the loss went to the moon"), CRASHED),
    ],
)
def test_an_error_has_its_status(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_an_orderly_end_is_put_into_words(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus, max_steps=3))
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    (end,) = run.rank_ends(1)
    assert (end.rank, end.code, end.reason, end.step, end.bad_samples) == (0, ExitCode.COMPLETED, None, 3, [])
    assert read_beat(run.beat_file).step == 3


def test_an_end_before_the_first_step_is_put_into_words(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    run.commands.post(CommandKind.CANCEL, 1)
    assert run_attempt(run, 1) == ExitCode.CANCELLED
    (end,) = run.rank_ends(1)
    assert (end.code, end.step) == (ExitCode.CANCELLED, 0)


def test_a_checkpoint_with_a_byte_flipped_is_damaged(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=2)
    run = begin(tmp_path, config)
    run_attempt(run, 1)
    path = run.checkpoint_dir(2) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    begin_next(run, config, 2, checkpoint="checkpoints/step-00000002")
    with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors"):
        run_attempt(run, 2)
    (end,) = run.rank_ends(2)
    assert (end.code, end.step) == (ExitCode.DAMAGED_CHECKPOINT, 0)
    assert "model.safetensors is not as it was written" in str(end.reason)
    assert str(end.reason) in of_kind(run, "alert")[-1]["message"]


def test_a_checkpoint_of_another_model_is_refused(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=1)
    run = begin(tmp_path, config)
    run_attempt(run, 1)
    wider = tiny_config(corpus, {"model": {"language": {"intermediate_size": 64}}}, max_steps=2)
    begin_next(run, wider, 2, checkpoint="checkpoints/step-00000001")
    with pytest.raises(AnotherModelError):
        run_attempt(run, 2)
    assert [end.code for end in run.rank_ends(2)] == [ExitCode.REFUSED]


def test_steps_that_are_no_numbers_name_their_samples(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, learning_rate=1e30, max_nonfinite=2, warmup_ratio=0.0, weight_decay=0.0)
    run = begin(tmp_path, config)
    with pytest.raises(StepsNotFiniteError):
        run_attempt(run, 1)
    (end,) = run.rank_ends(1)
    assert end.code == ExitCode.ROLLBACK
    assert end.bad_since_step == end.step - 2
    told = [event for event in of_kind(run, "non_finite") if event["name"] == "optim/grad_norm"]
    assert [event["step"] for event in told] == [end.step - 2, end.step - 1]  # the last step is in the error
    assert {sample for event in told for sample in event["sample_ids"]} & set(end.bad_samples)


def test_a_configuration_that_is_none_is_refused_by_the_process(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    run = begin(tmp_path, config)
    (corpus / "text" / "train.jsonl").unlink()
    assert train(run) == ExitCode.REFUSED
    (end,) = run.rank_ends(1)
    assert (end.code, end.step) == (ExitCode.REFUSED, 0)
    assert "source 'thoughts' has no file" in str(end.reason)
    assert run.log_file.read_text().strip().splitlines()[-1].endswith(str(end.reason).partition(": ")[2])


def test_a_run_that_trains_gives_signs_of_life_and_shows_its_stacks_on_request(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus, max_steps=100_000, num_epochs=100_000))
    with started(run) as process:
        first = wait_for(lambda: (beat := read_beat(run.beat_file)).step > 0 and beat, 60)
        wait_for(lambda: read_beat(run.beat_file).count > first.count)
        process.send_signal(signal.SIGUSR1)
        wait_for(lambda: "most recent call first" in run.log_file.read_text())
        process.terminate()
        assert process.wait(30) == ExitCode.STOPPED
    (end,) = run.rank_ends(1)
    assert end.code == ExitCode.STOPPED
    assert end.step == json.loads((run.checkpoint_dir(end.step) / "state.json").read_text())["trainer"]["step"]


def broken_for(trainer: XoronTrainer, area: str, since: int, before: int = 1000) -> list[str]:
    """Let the loss of a modality be no number in these steps; the samples of them, as they come."""
    plain = trainer.model.tasks[f"{area}.loss"]
    samples: list[str] = []

    def task(model: Any, batch: Any) -> Any:
        terms = plain(model, batch)
        if not since <= trainer.global_step + 1 < before:
            return terms
        samples.extend(batch.sample_ids)
        return {name: (value * float("nan"), count) for name, (value, count) in terms.items()}

    trainer.model.tasks[f"{area}.loss"] = task
    return samples


def test_of_a_step_that_is_no_number_only_the_micro_batches_at_fault_are_named(corpus: Path) -> None:
    config = tiny_config(corpus, gradient_accumulation_steps=2, max_nonfinite=1, max_steps=9)
    with ExitStack() as resources:
        trainer = build_trainer(config, [], Control(), None, lambda phase: None, resources)
        broken_for(trainer, "image_generation", 3)
        with pytest.raises(StepsNotFiniteError, match="2 steps in a row") as caught:
            trainer.train()
    assert caught.value.since_step == 3
    assert caught.value.samples
    assert {sample.partition("[")[0] for sample in caught.value.samples} == {"pictures"}


def test_metrics_of_several_steps_name_the_samples_of_those_that_were_no_numbers(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, gradient_accumulation_steps=2, logging_steps=4, max_steps=8)
    run = begin(tmp_path, config)
    with EventWriter(run.path, 1) as told, ExitStack() as resources:
        hooks = standard_hooks(config, run, told)
        trainer = build_trainer(config, hooks, Control(), None, lambda phase: None, resources)
        broken = broken_for(trainer, "image_generation", 2, 3)
        trainer.train()
    assert broken
    assert {event["step"] for event in of_kind(run, "non_finite")} == {4}
    assert {tuple(event["sample_ids"]) for event in of_kind(run, "non_finite")} == {tuple(broken)}


def test_the_samples_of_steps_in_a_row_survive_a_resume(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, gradient_accumulation_steps=2, max_nonfinite=3, max_steps=5, save_steps=4)
    run = begin(tmp_path, config)
    found = []
    for resume_from in (None, run.checkpoint_dir(4)):
        with EventWriter(run.path, 1) as told, ExitStack() as resources:
            hooks = standard_hooks(config, run, told)
            trainer = build_trainer(config, hooks, Control(), resume_from, lambda phase: None, resources)
            broken_for(trainer, "text", 3)
            assert trainer.train() is None
            found.append((trainer.state.nonfinite_in_a_row, trainer.state.nonfinite_samples))
    assert found[0] == found[1]
    assert found[0][0] == 3


def test_samples_that_an_attempt_leaves_out_are_told_and_counted(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=40)
    run = begin(tmp_path, config)
    begin_next(run, config, 2, skip=["pictures[3]", "thoughts[5]"])
    assert run_attempt(run, 2) == ExitCode.COMPLETED
    skips = [event["reason"] for event in of_kind(run, "trouble") if event["action"] == "skip"]
    assert sorted(reason.split()[0] for reason in skips) == ["pictures[3]", "thoughts[5]"]
    last = of_kind(run, "metrics")[-1]["values"]
    state = json.loads((run.checkpoint_dir(40) / "state.json").read_text())["trainer"]
    assert last["data/skipped_samples"] == sum(state["data"]["skipped"].values()) > 2
    assert state["epoch"] >= 1

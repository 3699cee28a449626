"""What the reference does around the steps: checkpoints of its form, evaluation, recomputed activations."""

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference_batches import open_trainer
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError, ConfigError
from xoron_core.contract.run_directory import RunDirectory, new_record
from xoron_core.contract.writer import EventWriter
from xoron_core.training.checkpoint import verify_checkpoint
from xoron_core.training.errors import AnotherModelError, DamagedCheckpointError
from xoron_core.training.hooks import standard_hooks
from xoron_core.training.trainer import XoronTrainer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"), num_texts=6, num_pictures=4)


@pytest.fixture(scope="module")
def config(corpus: Path) -> RunConfig:
    return tiny_config(corpus, max_steps=2, num_epochs=9)


@pytest.fixture(scope="module")
def trained(config: RunConfig) -> Iterator[XoronTrainer]:
    with open_trainer(config) as trainer:
        trainer.train()
        yield trainer


def as_the_reference_writes_it(trainer: XoronTrainer, **changes: Any) -> dict[str, Any]:
    checkpoint = {
        "epoch": 3,
        "global_step": 41,
        "model_state_dict": trainer.model.state_dict(),
        "optimizer_state_dict": trainer.optimizer.state_dict(),
        "scheduler_state_dict": trainer.scheduler.state_dict(),
        "best_loss": 1.5,
        "config": trainer.config.to_dict(),
        "xoron_config": trainer.xoron_config.to_dict(),
    }
    return {key: value for key, value in {**checkpoint, **changes}.items() if value is not None}


def test_a_checkpoint_of_the_reference_is_gone_on_from(
    trained: XoronTrainer, config: RunConfig, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint-3.pt"
    torch.save(as_the_reference_writes_it(trained), path)
    with open_trainer(config, resume_from=path) as trainer:
        assert (trainer.start_epoch, trainer.global_step, trainer.best_loss) == (4, 41, 1.5)
        assert trainer.control.step == 41
        assert trainer.receipt is not None
        assert trainer.receipt.restored == ["model", "optimizer", "scheduler", "epoch", "step", "best_loss"]
        assert trainer.receipt.reset == ["data", "metrics", "rng"]
        for name, tensor in trained.model.state_dict().items():
            assert torch.equal(trainer.model.state_dict()[name], tensor), name
        saved, here = trained.optimizer.state_dict(), trainer.optimizer.state_dict()
        assert here["param_groups"] == saved["param_groups"]
        for at, entries in saved["state"].items():
            assert all(torch.equal(here["state"][at][key], value) for key, value in entries.items())
        assert trainer.scheduler.last_epoch == trained.scheduler.last_epoch == 2

    more = config.model_copy(update={"training": config.training.model_copy(update={"max_steps": 42})})
    with open_trainer(more, resume_from=path) as trainer:
        assert trainer.train() is None
        assert trainer.global_step == 42


def test_a_loss_that_was_never_set_is_none(trained: XoronTrainer, config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    torch.save(as_the_reference_writes_it(trained, best_loss=math.inf), path)
    with open_trainer(config) as trainer:
        trainer._load_checkpoint(str(path))
        assert trainer.best_loss is None


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


def test_code_in_a_checkpoint_is_not_run(
    trained: XoronTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint-3.pt"
    torch.save(as_the_reference_writes_it(trained, config=RunsCode()), path)
    with pytest.raises(CheckpointError, match="other than tensors and plain data"):
        trained._load_checkpoint(path)
    assert not (tmp_path / "was-run").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "was-run").exists(), "there was nothing to run"


KEYS = ("epoch", "global_step", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "best_loss")


@pytest.mark.parametrize("key", KEYS)
def test_what_is_missing_is_named(trained: XoronTrainer, key: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    torch.save(as_the_reference_writes_it(trained, **{key: None}), path)
    with pytest.raises(CheckpointError, match=f"has no '{key}'"):
        trained._load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": "three"}, "'epoch' in .* is str"),
        ({"model_state_dict": {"llm.weight": torch.zeros(1)}}, "model_state_dict is not of what is trained here"),
        ({"optimizer_state_dict": {"state": {}, "param_groups": []}}, "optimizer_state_dict is not of"),
        ({"scheduler_state_dict": {"last_epoch": 1}}, "scheduler_state_dict is not of"),
    ],
)
def test_what_does_not_fit_is_named(config: RunConfig, changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    with open_trainer(config) as trainer:
        torch.save(as_the_reference_writes_it(trainer, **changes), path)
        with pytest.raises(CheckpointError, match=says):
            trainer._load_checkpoint(path)


def test_a_file_that_is_cut_off_or_something_else_is_refused(trained: XoronTrainer, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    torch.save(as_the_reference_writes_it(trained), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint-3\.pt is damaged"):
        trained._load_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="not loaded"):
        trained._load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds list, not a dictionary"):
        trained._load_checkpoint(path)
    with pytest.raises(CheckpointError, match="step-00000001"):
        trained._load_checkpoint(tmp_path / "step-00000001")


def test_weights_of_another_precision_are_refused(trained: XoronTrainer, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pt"
    half = {name: tensor.half() for name, tensor in trained.model.state_dict().items()}
    torch.save(as_the_reference_writes_it(trained, model_state_dict=half), path)
    with pytest.raises(AnotherModelError, match="saved in float16"):
        trained._load_checkpoint(path)


def test_a_checkpoint_goes_into_the_run_directory(config: RunConfig, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, new_record("a test"), config)
    with EventWriter(run.path, 1) as events, open_trainer(config, standard_hooks(config, run, events)) as trainer:
        trainer.state.step = 5
        path = trainer._save_checkpoint(0)
        assert path == run.checkpoint_dir(5)
        verify_checkpoint(path)
        assert trainer._save_checkpoint(0) == path, "a step has one"
        trainer.state.step = 0
        trainer._load_checkpoint(path)
        assert trainer.global_step == 5
        trainer._evaluate(0)
        assert trainer.best_loss is not None
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8")
    assert '"kind":"checkpoint"' in lines
    assert '"kind":"eval"' in lines


def test_a_trainer_without_a_run_directory_says_what_it_needs(trained: XoronTrainer) -> None:
    with pytest.raises(CheckpointError, match="standard_hooks"):
        trained._save_checkpoint(0)


def test_held_out_rows_are_evaluated_and_the_best_is_noted(config: RunConfig, caplog: pytest.LogCaptureFixture) -> None:
    with open_trainer(config) as trainer, caplog.at_level(logging.INFO, "xoron_core.training.reference"):
        trainer.model.train()
        trainer._evaluate(2)
        assert trainer.model.training
        first = trainer.best_loss
        assert first is not None
        assert "epoch 2: eval/text/loss" in caplog.text
        trainer.state.best_loss = first - 1
        trainer._evaluate(3)
        assert trainer.best_loss == first - 1
        trainer._log_metrics(1.25)
        assert "mean loss 1.2500" in caplog.text
        trainer.eval_dataset = None
        with pytest.raises(ConfigError, match="eval_dataset"):
            trainer._evaluate(4)


def test_recomputed_components_are_named(config: RunConfig, caplog: pytest.LogCaptureFixture) -> None:
    with open_trainer(config) as trainer, caplog.at_level(logging.INFO, "xoron_core.training.reference"):
        assert {"llm", "generator"} <= set(trainer._enable_gradient_checkpointing())
        assert "gradient checkpointing enabled for: llm" in caplog.text
        trainer.config = trainer.config.model_copy(update={"checkpointed_components": ("generator",)})
        assert trainer._enable_gradient_checkpointing() == ("generator",)

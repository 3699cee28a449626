"""Whole runs with adapters: what moves, at what rate, and whether a resumed run goes on as it would have."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.runs import events
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.training.adapters.files import export_adapters, save_adapters
from xoron_core.training.adapters.lora import is_adapter
from xoron_core.training.build import build_trainer
from xoron_core.training.checkpoint import read_checkpoint
from xoron_core.training.control import Control
from xoron_core.training.process import run_attempt
from xoron_core.training.trainer import XoronTrainer

COUNTERS = "router.last_load_E"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def config_of(corpus: Path, lora: dict[str, Any], **training: Any) -> RunConfig:
    settings = {"lora": {"use_lora": True, "r": 4, "dropout": 0.1, **lora}}
    return tiny_config(corpus, settings, gradient_accumulation_steps=1, gradient_checkpointing=True, **training)


def new_trainer(config: RunConfig, resources: ExitStack) -> XoronTrainer:
    return build_trainer(config, [], Control(), None, lambda phase: None, resources)


@pytest.mark.parametrize("only", [True, False])
def test_what_moves(corpus: Path, only: bool) -> None:
    with ExitStack() as resources:
        trainer = new_trainer(config_of(corpus, {"train_lora_only": only}, max_steps=4), resources)
        before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        trainer.train()
    after = trainer.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name]) and COUNTERS not in name}
    adapters = {name for name in before if is_adapter(name)}
    assert adapters <= moved
    if only:
        assert moved == adapters
    else:
        frozen = {name for name in before if ".base_layer." in name and name not in adapters}
        assert frozen.isdisjoint(moved)
        assert {"llm.model.embed_tokens.weight", "llm.model.norm.weight"} <= moved
        assert any(name.startswith("generator.") for name in moved)


def test_second_matrices_learn_faster(corpus: Path) -> None:
    lora = {"lora_plus_lr_ratio": 8.0, "train_lora_only": True}
    with ExitStack() as resources:
        trainer = new_trainer(config_of(corpus, lora, max_steps=4, learning_rate=1e-3), resources)
        rates = {id(p): group["initial_lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
        named = {name: rates.pop(id(p)) for name, p in trainer.model.named_parameters() if id(p) in rates}
    assert not rates
    assert named == {name: pytest.approx(8e-3 if ".lora_B." in name else 1e-3) for name in named if is_adapter(name)}


@pytest.mark.parametrize("lora", [{}, {"use_dora": True, "target_modules": ["q_proj", "v_proj"]}])
def test_weights_in_half_precision_learn_by_adapters_too(corpus: Path, lora: dict[str, Any]) -> None:
    changes: dict[str, Any] = {"max_steps": 3, "model_dtype": "float16", "bf16": False, "use_8bit_optimizer": False}
    with ExitStack() as resources:
        trainer = new_trainer(config_of(corpus, {"train_lora_only": True, **lora}, **changes), resources)
        trainer.train()
        assert all(p.any() for name, p in trainer.model.named_parameters() if ".lora_B." in name)
        assert {p.dtype for p in trainer.model.llm.parameters()} == {torch.float16}
    assert trainer.state.skipped_steps == 0


def train(run: RunDirectory, config: RunConfig, attempt: int, checkpoint: str | None = None) -> None:
    record = AttemptRecord(
        attempt=attempt, reason="test", created_at=clock.now(), checkpoint=checkpoint, config=config.to_dict()
    )
    run.write_attempt(record)
    assert run_attempt(run, attempt) == ExitCode.COMPLETED


def test_a_resumed_run_goes_on_bit_by_bit(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, {}, max_steps=6, save_steps=3)
    run = RunDirectory.create(tmp_path, new_record("a test"), config)
    train(run, config, 1)
    expected = read_checkpoint(run.checkpoint_dir(6))
    train(run, config, 2, "checkpoints/step-00000003")
    found = read_checkpoint(run.checkpoint_dir(6))
    for part in ("model", "optimizer", "rng"):
        assert found.tensors[part].keys() == expected.tensors[part].keys()
        assert all(torch.equal(found.tensors[part][name], tensor) for name, tensor in expected.tensors[part].items())
    losses = [
        {event["step"]: event["values"]["train/loss"] for event in events(run)
         if event["kind"] == "metrics" and event["attempt"] == attempt}
        for attempt in (1, 2)
    ]  # fmt: skip
    assert losses[1]
    assert losses[1] == {step: losses[0][step] for step in losses[1]}

    export_adapters(run.checkpoint_dir(6), tmp_path / "exported")
    with ExitStack() as resources:
        trainer = new_trainer(config, resources)
        trainer.load_checkpoint(run.checkpoint_dir(6))
        save_adapters(trainer.model, tmp_path / "saved", config.lora)
    exported, saved = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("exported", "saved"))
    assert exported.keys() == saved.keys()
    assert all(torch.equal(exported[name], saved[name]) for name in saved)

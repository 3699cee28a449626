"""What weights and passes are computed in: float32, mixed, and weights in float16."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import events
from support.small_models import make_xoron
from support.tiny import tiny_config, tiny_corpus
from support.workbench import make_workbench
from torch.amp import GradScaler
from torch.optim import AdamW

from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.contract.writer import EventWriter
from xoron_core.training.build import build_trainer
from xoron_core.training.checkpoint import read_checkpoint
from xoron_core.training.control import Control
from xoron_core.training.errors import AnotherModelError
from xoron_core.training.hooks.logging import LoggingHook
from xoron_core.training.master_weights import MasterAdamW
from xoron_core.training.precision import Precision, keep_weights_in
from xoron_core.training.process import run_attempt
from xoron_core.training.trainer import XoronTrainer

HALF = {"model_dtype": "float16", "bf16": False}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@contextmanager
def trainer_of(config: RunConfig, hooks: list[Any] | None = None) -> Iterator[XoronTrainer]:
    with ExitStack() as resources:
        yield build_trainer(config, hooks or [], Control(), None, lambda phase: None, resources)


def test_parameters_are_cast_and_what_must_be_exact_is_not() -> None:
    model = make_xoron()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    keep_weights_in(model, torch.float16)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if name.startswith("autoencoder.") else torch.float16), name
    for name, buffer in model.named_buffers():
        assert buffer.dtype == torch.float32
        assert torch.equal(buffer, before[name]), name
    assert {"llm.model.rope.frequencies_R", "llm.model.layers.1.feed_forward.router.bias_E"} <= before.keys()


def test_a_trainer_has_the_reference_s_attributes(corpus: Path) -> None:
    with trainer_of(tiny_config(corpus, max_grad_norm=0.5)) as trainer:
        assert (trainer.scaler, trainer.manual_loss_scale, trainer.amp_dtype, trainer.use_amp) == (None,) * 3 + (False,)
        assert trainer.max_grad_norm == 0.5
        assert type(trainer.optimizer) is AdamW
    with trainer_of(tiny_config(corpus, **HALF)) as trainer:
        assert (trainer.scaler, trainer.manual_loss_scale) == (None, None)
        assert (trainer.amp_dtype, trainer.use_amp) == (torch.float16, True)
        assert type(trainer.optimizer) is MasterAdamW


def test_float16_weights_ask_for_an_optimizer_with_masters(corpus: Path) -> None:
    with trainer_of(tiny_config(corpus, **HALF)) as trainer:
        plain = AdamW(trainer.model.parameters())
        with pytest.raises(ConfigError, match="AdamW keeps no float32 weights"):
            XoronTrainer(
                trainer.model,
                trainer.train_dataset,
                plain,
                trainer.scheduler,
                trainer.config,
                trainer.xoron_config,
                trainer.collate_fn,
            )


def attempt(run: RunDirectory, config: RunConfig, number: int, checkpoint: str | None = None) -> int:
    run.write_attempt(
        AttemptRecord(
            attempt=number, reason="test", created_at=clock.now(), checkpoint=checkpoint, config=config.to_dict()
        )
    )
    return run_attempt(run, number)


def test_float16_weights_train_on_the_cpu_and_resume_bit_for_bit(corpus: Path, tmp_path: Path) -> None:
    changes = {**HALF, "max_steps": 4, "gradient_accumulation_steps": 2, "logging_steps": 1, "sample_steps": 4}
    config = tiny_config(corpus, **changes, learning_rate=3e-3, warmup_ratio=0.0, save_steps=3)
    run = RunDirectory.create(tmp_path, new_record("half"), config)
    assert attempt(run, config, 1) == ExitCode.COMPLETED
    told = [event for event in events(run) if event["kind"] in {"metrics", "eval"}]
    first, last = (event["values"] for event in (told[0], [e for e in told if e["kind"] == "metrics"][-1]))
    assert "optim/loss_scale" not in first
    assert first["optim/skipped_steps"] == 0.0
    assert last["train/loss"] < first["train/loss"]
    assert (run.sample_dir(4) / "index.json").exists()
    reference = read_checkpoint(run.checkpoint_dir(4))
    weights = reference.tensors["model"]
    for name, master in reference.tensors["optimizer"].items():
        if name.endswith("/master"):
            assert master.dtype == torch.float32
            assert torch.equal(weights[name.removesuffix("/master")], master.half()), name

    assert attempt(run, config, 2, "checkpoints/step-00000003") == ExitCode.COMPLETED
    resumed = read_checkpoint(run.checkpoint_dir(4))
    assert resumed.state == reference.state
    for part in ("model", "optimizer", "rng"):
        assert all(torch.equal(resumed.tensors[part][name], t) for name, t in reference.tensors[part].items())

    other = config.model_copy(update={"training": config.training.model_copy(update={"model_dtype": "float32"})})
    with pytest.raises(AnotherModelError, match="was saved in float16 and is kept in float32 here"):
        attempt(run, other, 3, "checkpoints/step-00000003")


def first_gradients(config: RunConfig) -> tuple[float, float]:
    """The norm that a weight's gradient has in the backward pass of the first micro-batch, and that of the step."""
    found: list[float] = []
    with trainer_of(config) as trainer:
        trainer.model.llm.model.norm.weight.register_hook(lambda gradient: found.append(float(gradient.norm())))
        assert trainer.train() is None
        means = trainer.metrics.means()
    return found[0], means["optim/grad_norm"]


def test_accumulation_takes_no_gradient_nearer_to_the_smallest_of_float16(corpus: Path) -> None:
    text = {"modalities": {"image_generation": {"weight": 0.0}, "text": {"batch_size": 1}}}

    def of(micro_batches: int, **training: Any) -> tuple[float, float]:
        options = {"max_steps": 1, "gradient_accumulation_steps": micro_batches, "logging_steps": 5, **training}
        return first_gradients(tiny_config(corpus, text, **options))

    alone, many, exact = of(1, **HALF), of(8, **HALF), of(8)
    assert many[0] == pytest.approx(alone[0], rel=0.5), "it is not divided by 8 before"
    assert exact[0] == pytest.approx(alone[0] / 8, rel=0.5)
    assert many[1] == pytest.approx(exact[1], rel=0.01), "and is after"


def test_steps_that_overflow_their_scale_are_counted_and_the_count_survives(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=8, logging_steps=1, max_nonfinite=0)
    run = RunDirectory.create(tmp_path, new_record("scaled"), config)
    with EventWriter(run.path, 1) as told, trainer_of(config, [LoggingHook(told)]) as trainer:
        trainer.scaler = GradScaler("cpu", init_scale=2.0**127)
        next(trainer.model.llm.parameters()).register_hook(lambda gradient: gradient * 2.0**11)
        assert trainer.train() is None
        scale = trainer.scaler.get_scale()
        content = trainer.snapshot().take("")
    skipped = trainer.state.skipped_steps
    assert 0 < skipped < 8
    values = [event["values"] for event in events(run) if event["kind"] == "metrics"]
    assert len(values) == 8
    for told_of in values:  # each overflow halves the scale
        assert told_of["optim/loss_scale"] == 2.0 ** (127 - told_of["optim/skipped_steps"])
    assert (values[-1]["optim/skipped_steps"], values[-1]["optim/loss_scale"]) == (skipped, scale)
    with trainer_of(config) as again:
        again.scaler = GradScaler("cpu")
        again.snapshot().restore(content)
        assert again.state.skipped_steps == skipped
        assert again.scaler.get_scale() == scale


def test_a_step_without_a_scaler_is_counted_too(corpus: Path) -> None:
    with trainer_of(tiny_config(corpus, max_steps=3)) as trainer:
        weight = next(trainer.model.llm.parameters())

        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf") if trainer.global_step == 1 else gradient

        weight.register_hook(spoil)
        assert trainer.train() is None
        assert (trainer.state.skipped_steps, trainer.state.nonfinite_in_a_row) == (1, 0)
        assert bool(torch.isfinite(weight).all())


def test_the_older_state_of_a_run_has_no_count_yet(corpus: Path) -> None:
    with trainer_of(tiny_config(corpus)) as trainer:
        saved = trainer.state.state_dict()
        del saved["skipped_steps"]
        trainer.state.load_state_dict(saved)
        assert trainer.state.skipped_steps == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_unused_memory_goes_back_to_the_driver(corpus: Path) -> None:
    held = {}
    for every in (0, 2):
        config = tiny_config(corpus, {"resources": {"device": "cuda"}}, max_steps=2, empty_cache_freq=every)
        with trainer_of(config) as trainer:
            scrap = torch.empty(2**28, device="cuda", dtype=torch.uint8)
            del scrap
            trainer.train()
            held[every] = torch.cuda.memory_reserved()
        del trainer
    assert held[2] <= held[0] - 2**28


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_configuration_decides() -> None:
    device = torch.device("cuda")
    model = make_xoron(components=frozenset({"llm"})).to(device)

    def of(**training: Any) -> Precision:
        return Precision.of(TrainingConfig.parse(training), model, device)

    assert of(bf16=True).amp_dtype == torch.bfloat16
    assert of(bf16=True).scaler is None
    assert of(bf16=False, fp16=True).amp_dtype == torch.float16
    assert of(bf16=False, fp16=True).scaler is not None
    assert of(bf16=False).amp_dtype is None
    keep_weights_in(model, torch.float16)
    assert of(bf16=True) == Precision(device, torch.float16, None, has_half_weights=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image_understanding", "video_understanding", "video_generation", "asr", "tts"])
def test_modalities_compute_in_float16_what_they_do_in_float32(name: str) -> None:
    """Together with the tiny runs of text and images these are all components."""
    bench = make_workbench(name)
    rows = bench.rows(1)
    bench.model.train()
    loss = bench.backward(bench.modality.collate(rows))
    exact = {n: p.grad.clone() for n, p in bench.model.named_parameters() if p.grad is not None}
    bench.model.zero_grad()
    keep_weights_in(bench.model, torch.float16)
    optimizer = MasterAdamW(
        [{"params": [p for p in bench.model.parameters() if p.requires_grad]}], lr=1e-3, betas=(0.9, 0.95)
    )
    with torch.autocast("cpu", dtype=torch.float16):
        assert bench.backward(bench.modality.collate(rows)) == pytest.approx(loss, rel=2e-3)
    found = {n: p.grad for n, p in bench.model.named_parameters() if p.grad is not None}
    assert found.keys() == exact.keys()
    off = sum(float((found[n] - gradient).square().sum()) for n, gradient in exact.items())
    assert off <= 0.03**2 * sum(float(gradient.square().sum()) for gradient in exact.values())
    optimizer.step()
    with Precision(torch.device("cpu"), torch.float16, None, has_half_weights=True).in_evaluation():
        assert set(bench.modality.objective) <= set(bench.evaluated(rows))
        with torch.inference_mode():
            prompt = bench.modality.prompts(rows)[0]
            assert bench.modality.sample(bench.model, prompt, torch.Generator().manual_seed(1))

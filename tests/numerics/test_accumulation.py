"""A step of the trainer over unequal micro-batches of several modalities, against one large batch of each."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_config, tiny_corpus
from torch import Tensor

from xoron_core.contract.config.run import RunConfig
from xoron_core.data.records import MicroBatch, Sample
from xoron_core.modalities.base import Batch, Collator, LossTerms, Modality
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control
from xoron_core.training.trainer import XoronTrainer

ACCUMULATED = 7
LOSS_WEIGHTS = {"text": 1.5, "image_generation": 0.25}


class KeepingCollator(Collator):
    """Keeps what the micro-batches of a step were made of."""

    def __init__(self, collator: Collator) -> None:
        super().__init__(collator.modalities)
        self.kept: list[MicroBatch] = []

    def __call__(self, micro: MicroBatch) -> Batch:
        self.kept.append(micro)
        return super().__call__(micro)


def config_of(corpus: Path) -> RunConfig:
    return tiny_config(
        corpus,
        {
            "modalities": {
                name: {"loss_weight": weight, "batch_size": 3 if name == "text" else 2}
                for name, weight in LOSS_WEIGHTS.items()
            },
        },
        gradient_accumulation_steps=ACCUMULATED,
        max_steps=1,
        max_grad_norm=1e9,
    )


class OneStep:
    """What a trainer's first step saw and came to: its gradients as they reached the optimizer, and its objective."""

    def __init__(self, trainer: XoronTrainer) -> None:
        self.collator = KeepingCollator(trainer.collate_fn)
        trainer.collate_fn = self.collator
        self.before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        self.gradients: dict[str, Tensor] = {}
        trainer.optimizer.register_step_pre_hook(lambda *_: self.gradients.update(gradients_of(trainer.model)))
        trainer.train()
        self.objective = trainer.metrics.means()["train/loss"]

    @property
    def window(self) -> list[MicroBatch]:
        return self.collator.kept[:ACCUMULATED]

    def samples(self, modality: str) -> list[Sample]:
        return [sample for micro in self.window if micro.modality == modality for sample in micro.samples]


def gradients_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_the_formula(trainer: XoronTrainer, step: OneStep) -> tuple[float, dict[str, Tensor]]:
    """Σ w · k / G · sum / count with all rows of a modality in one batch; each objective has one term here."""
    trainer.model.load_state_dict(step.before)
    trainer.model.zero_grad()
    objective = torch.zeros(())
    for name, weight in LOSS_WEIGHTS.items():
        modality: Modality[Any, Any] = trainer.modalities[name]
        share = sum(micro.modality == name for micro in step.window) / ACCUMULATED
        terms: LossTerms = trainer.model(f"{name}.loss", modality.collate(step.samples(name)))
        total, count = terms["loss"]
        objective = objective + weight * share * total / count
    objective.backward()
    return float(objective.detach()), gradients_of(trainer.model)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_unequal_micro_batches_of_a_step_count_as_one_large_batch(
    tmp_path: Path, *, gradient_checkpointing: bool
) -> None:
    config = config_of(tiny_corpus(tmp_path))
    training = config.training.model_copy(update={"gradient_checkpointing": gradient_checkpointing})
    config = config.model_copy(update={"training": training})
    with ExitStack() as resources:
        trainer = build_trainer(config, [], Control(), None, lambda _: None, resources)
        step = OneStep(trainer)
        assert {micro.modality for micro in step.window} == set(LOSS_WEIGHTS)
        texts = [trainer.modalities["text"].collate(micro.samples) for micro in step.window if micro.modality == "text"]
        weights = [batch.counts["loss"] for batch in texts]
        assert len(texts) >= 2
        assert max(weights) > 1.05 * min(weights), "micro-batches that differ"
        objective, expected = by_the_formula(trainer, step)
    assert step.objective == pytest.approx(objective, rel=1e-5)
    assert step.gradients.keys() == expected.keys()
    assert len(expected) > 60
    for name, gradient in expected.items():
        torch.testing.assert_close(
            step.gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )

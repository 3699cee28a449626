"""One modality of the `demo` preset with its real rows and a model of its own."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.presets import resolve
from xoron_core.data.formats import format_record
from xoron_core.data.records import Sample, SampleOrigin, derive_seed
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Batch, Modality
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_model
from xoron_core.training.objective import WindowObjective
from xoron_core.training.optimizer import build_optimizer


@dataclass
class Workbench:
    config: RunConfig
    modality: Modality[Any, Any]
    model: XoronMultimodalModel

    def rows(self, count: int, seed: int = 0, split: str | None = None) -> list[Sample]:
        """The first training rows of the modality's first source, or those of another split."""
        source = self.config.data.sources[self.config.sources_of(self.modality.name)[0]]
        origins = [SampleOrigin(source.name, at, derive_seed(seed, at)) for at in range(count)]
        with closing(open_source(source, split or source.split, None)) as reader:
            assert isinstance(reader, Source)
            records = [format_record(reader.read(origin.index), source, origin.seed) for origin in origins]
            return [self.modality.prepare(record, origin) for record, origin in zip(records, origins, strict=True)]

    def backward(self, *batches: Batch) -> float:
        """Add the gradients of one accumulation window; its objective."""
        objective = WindowObjective(batches, {self.modality.name: self.modality})
        losses = [objective.contribution(batch, self.modality.loss(self.model, batch)) for batch in batches]
        total = torch.stack(losses).sum()
        total.backward()
        return float(total.detach())

    @torch.no_grad()
    def loss_of(self, samples: Sequence[Sample], draws: int = 4) -> float:
        """The headline loss as evaluation sees it, over several draws of noise and times."""
        total = count = 0.0
        for draw in range(draws):
            batch = self.modality.for_evaluation(self.modality.collate(self.redrawn(samples, -1 - draw)))
            part, number = self.modality.loss(self.model.eval(), batch)["loss"]
            total, count = total + float(part), count + float(number)
        return total / count

    def shuffled(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each sample with the condition of the one before it, where those two fit together."""
        pairs = zip(samples, [samples[-1], *samples[:-1]], strict=True)
        mixed = (self.modality.with_condition_of(sample, other) for sample, other in pairs)
        return [sample for sample in mixed if sample is not None]

    def fit(self, samples: Sequence[Sample], steps: int, learning_rate: float) -> None:
        """Train on these samples alone, with noise and times drawn anew at each step; the rate falls to a tenth."""
        training = self.config.training.model_copy(update={"learning_rate": learning_rate, "weight_decay": 0.0})
        optimizer = build_optimizer(self.model, training)
        self.model.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(1.0, (step + 1) / 20) * max(0.1, 1 - step / steps)
            batch = self.modality.collate(self.redrawn(samples, step))
            self.backward(batch)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        self.model.eval()

    def redrawn(self, samples: Sequence[Sample], step: int) -> list[Any]:
        """The same samples with other noise and times."""
        found: list[Any] = list(samples)
        origins = [replace(s.origin, seed=derive_seed("again", step, at)) for at, s in enumerate(found)]
        return [replace(sample, origin=origin) for sample, origin in zip(found, origins, strict=True)]

    @torch.no_grad()
    def evaluated(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Means of the evaluation's terms."""
        batch = self.modality.for_evaluation(self.modality.collate(samples))
        terms = self.modality.evaluate(self.model.eval(), batch)
        return {name: float(total / count) for name, (total, count) in terms.items() if count > 0}


def make_workbench(name: str, overrides: dict[str, Any] | None = None) -> Workbench:
    """The `demo` preset with this modality alone; `overrides` are laid over it."""
    everything = resolve("demo")
    sources = [everything.data.sources[index].to_dict() for index in everything.sources_of(name)]
    only = {"data": {"sources": sources}, "resources": {"device": "cpu"}}
    config = resolve("demo", merge(only, overrides or {}))
    tokenizer = Tokenizer.load(config.model.tokenizer)
    modalities = enabled_modalities(config, tokenizer)
    assert list(modalities) == [name]
    return Workbench(config, modalities[name], build_model(config, modalities, tokenizer, torch.device("cpu")))

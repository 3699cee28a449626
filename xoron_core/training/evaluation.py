"""Evaluation on held-out rows, the same rows, noise and times at every call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.config.training import EvaluationConfig
from xoron_core.contract.errors import DataError
from xoron_core.data.formats import format_record
from xoron_core.data.packing import Layout, arrange
from xoron_core.data.records import Sample, SampleOrigin, derive_seed
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source, Stream, spread_rows
from xoron_core.modalities.base import Batch, Modality
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.metrics import MetricWindow

SHUFFLED_LOSS = "shuffled_loss"
"""Metric of a modality's headline loss with the conditions of other rows."""
MEAN_LOSS = "eval/loss"
"""Mean of the modalities' headline losses."""


class EvaluationSet:
    """Held-out rows of every source, spread evenly over its split (a stream's: its first), prepared once.

    A row that cannot be read is left out; why stands in `unreadable`. `cache` is where indexes of files are kept.
    `on_progress` is called every now and then while rows are prepared.
    """

    def __init__(
        self,
        sources: Sequence[tuple[SourceConfig, str]],
        modalities: Mapping[str, Modality[Any, Any]],
        config: EvaluationConfig,
        cache: Path | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.modalities = modalities
        self.config = config
        self.on_progress = on_progress
        self.unreadable: list[DataError] = []
        self.samples: dict[str, list[Sample]] = {name: [] for name in modalities}
        for source, modality in sources:
            if source.eval_split is not None:
                with closing(open_source(source, source.eval_split, cache, lambda _: on_progress())) as opened:
                    self._read(opened, source, modalities[modality])

    def _read(self, opened: Source | Stream, source: SourceConfig, modality: Modality[Any, Any]) -> None:
        for index, read in spread_rows(opened, self.config.max_per_dataset_eval):
            for repeat in range(modality.eval_repeats):
                seed = derive_seed(self.config.seed, source.name, index, repeat)
                origin = SampleOrigin(source.name, index, seed, (repeat, modality.eval_repeats))
                self.on_progress()
                try:
                    record = format_record(read(), source, seed)
                    self.samples[modality.name].append(modality.prepare(record, origin))
                except DataError as error:
                    self.unreadable.append(error)
                    break

    def batches(self) -> Iterator[Batch]:
        """Every held-out row once (with its repeats), a modality after the other."""
        yield from self._collated(self.samples)

    def shuffled_batches(self) -> Iterator[Batch]:
        """Every held-out row with the condition of another, where its modality has conditions and `shuffled` asks for
        it."""
        if self.config.shuffled:
            yield from self._collated(
                {name: self._shuffled(samples, self.modalities[name]) for name, samples in self.samples.items()}
            )

    def _shuffled(self, samples: Sequence[Sample], modality: Modality[Any, Any]) -> list[Sample]:
        """Each sample with the condition of the next one in a shuffled circle, where that is not the same row again."""
        order = np.random.Generator(np.random.PCG64(self.config.seed)).permutation(len(samples))
        pairs = ((samples[at], samples[other]) for at, other in zip(order, np.roll(order, 1), strict=True))
        mixed = (
            modality.with_condition_of(sample, other) for sample, other in pairs if sample.origin.id != other.origin.id
        )
        return [sample for sample in mixed if sample is not None]

    def _collated(self, samples_of: Mapping[str, Sequence[Sample]]) -> Iterator[Batch]:
        for name, samples in samples_of.items():
            modality = self.modalities[name]
            yield from (modality.for_evaluation(modality.collate(group)) for group in _groups(samples, modality))


def _groups(samples: Sequence[Sample], modality: Modality[Any, Any]) -> Iterator[list[Sample]]:
    """Rows in batches as large as those of training; what is longer than a row is cut."""
    limit = modality.row_length
    cut = [sample if limit is None or sample.length <= limit else sample.piece(0, limit) for sample in samples]
    layout = Layout(1, len(cut), modality.rows_per_batch, limit, modality.batch_tokens)
    for group in arrange([sample.length for sample in cut], [sample.shape for sample in cut], layout):
        yield [modality.join([cut[piece.sample] for piece in row]) for row in group]


def evaluate(
    model: XoronMultimodalModel,
    held_out: EvaluationSet,
    modalities: Mapping[str, Modality[Any, Any]],
    device: torch.device,
) -> Iterator[dict[str, float] | None]:
    """Yields None after each batch, so that a caller may give up in between, and at last the metrics (`eval/…`)."""
    window = MetricWindow()
    for batch in held_out.batches():
        with torch.inference_mode():  # not around the yield: it would hold for the caller, too
            window.add(f"eval/{batch.modality}", model(f"{batch.modality}.evaluate", batch.to(device)))
        yield None
    for batch in held_out.shuffled_batches():
        with torch.inference_mode():
            terms = model(f"{batch.modality}.loss", batch.to(device))
            window.add(f"eval/{batch.modality}", {SHUFFLED_LOSS: terms["loss"]})
        yield None
    yield with_mean_loss(with_derived(window.flush(), modalities, "eval/"), modalities)


def with_mean_loss(values: dict[str, float], modalities: Mapping[str, Modality[Any, Any]]) -> dict[str, float]:
    """Metrics of an evaluation with the mean of the headline losses in front, where there are any."""
    headlines = [values[name] for name in (f"eval/{modality}/loss" for modality in modalities) if name in values]
    return {MEAN_LOSS: sum(headlines) / len(headlines), **values} if headlines else values


def with_derived(
    values: dict[str, float], modalities: Mapping[str, Modality[Any, Any]], prefix: str = ""
) -> dict[str, float]:
    """Metrics with those that are functions of them (perplexity, …)."""
    result = dict(values)
    for name, modality in modalities.items():
        area = f"{prefix}{name}/"
        own = {key.removeprefix(area): value for key, value in values.items() if key.startswith(area)}
        result |= {f"{area}{key}": value for key, value in modality.derived(own).items()}
    return result

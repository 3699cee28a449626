"""What the trainer knows of a modality."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.modalities.base import ModalityConfig
from xoron_core.data.records import MicroBatch, Record, Sample, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.model.xoron import XoronMultimodalModel

LossTerms = dict[str, tuple[Tensor, Tensor]]
"""Name → (sum, count), both scalars on the device; no weights, no reduction across ranks."""

S = TypeVar("S", bound=Sample)
P = TypeVar("P")


@dataclass
class Batch:
    """Collated rows of one modality: this process's part of a micro-batch, none where it has none.

    `counts` holds the count of every term of the objective, known before any forward pass. Once the data set has given
    it out, `counts`, `num_tokens` and `sample_ids` are of all ranks together.
    """

    modality: str
    tensors: dict[str, Tensor]
    counts: dict[str, float]
    num_samples: int
    num_tokens: int
    sample_ids: tuple[str, ...]

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        self.tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return self


@dataclass(frozen=True)
class Artifact:
    """One file of a sample: something that the model was given or that it made."""

    content: bytes
    mime: str
    suffix: str
    caption: str
    """What was asked of the model."""
    expected: str | None = None
    """The truth, where there is one."""


class Modality(ABC, Generic[S, P]):
    """One thing the model learns: how its samples are made, what a step of it computes, what it can show.

    S is what a row becomes, P what a sample is made from.
    """

    name: ClassVar[str]
    components: ClassVar[frozenset[str]]
    """Parts of the model that it needs."""
    varies_in_length: ClassVar[bool] = True
    """Whether its samples are worth sorting by length; those of clips are large, and much alike."""
    eval_repeats: ClassVar[int] = 1
    """Times that evaluation looks at each row, with different noise and times."""

    def __init__(self, config: RunConfig, tokenizer: Tokenizer) -> None:
        self.run_config = config
        self.tokenizer = tokenizer

    @property
    def config(self) -> ModalityConfig:
        """Its own section of the configuration."""
        return self.run_config.modalities.get(self.name)

    @property
    def rows_per_batch(self) -> int:
        """Rows of a micro-batch."""
        return self.config.batch_size or self.run_config.training.batch_size

    @property
    def batch_tokens(self) -> int | None:
        """Most positions of a micro-batch, padding included; None: `rows_per_batch` decides."""
        return self.config.batch_tokens

    @property
    def max_per_epoch(self) -> int | None:
        """Most samples of an epoch; None: all."""
        return self.config.max_per_epoch

    @property
    def objective(self) -> Mapping[str, float]:
        """Terms of `loss` that are trained on, and their factors."""
        return {"loss": 1.0}

    @property
    def row_length(self) -> int | None:
        """Length of a row that samples are packed into; None where a sample is a row."""
        return None

    @abstractmethod
    def prepare(self, record: Record, origin: SampleOrigin) -> S:
        """The sample in a record.

        Raises: DataError with source, index and reason.
        """

    def join(self, samples: Sequence[S]) -> S:
        """The row that these samples make one after the other, where samples are packed."""
        [sample] = samples
        return sample

    @abstractmethod
    def collate(self, samples: Sequence[S]) -> Batch:
        """The batch of these rows: a pure function of them, with fixed keys and dtypes."""

    @abstractmethod
    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Terms of the loss, as sums and counts."""

    def for_evaluation(self, batch: Batch) -> Batch:
        """The batch without what is drawn for training only."""
        return batch

    def with_condition_of(self, sample: S, other: S) -> S | None:
        """The sample with what another is conditioned on (its picture, clip, sound, caption): a model that does not
        mind does not look at it. None: there is nothing of the kind, or these two do not fit together."""
        return None

    def evaluate(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Terms of the evaluation: those of `loss`, by the same path, and what else is worth knowing."""
        return self.loss(model, batch)

    def derived(self, values: Mapping[str, float]) -> dict[str, float]:
        """Metrics that are functions of finished means, by term name."""
        return {}

    @abstractmethod
    def prompts(self, held_out: Sequence[S]) -> Sequence[P]:
        """What its samples are made from, the same at every step: configured texts, or rows that are held out."""

    @abstractmethod
    def sample(self, model: XoronMultimodalModel, prompt: P, generator: torch.Generator) -> tuple[Artifact, ...]:
        """What the model makes of a prompt, as files whose suffixes differ."""


class Collator:
    """Turns what the data set yields into batches; the `collate_fn` of the trainer."""

    def __init__(self, modalities: Mapping[str, Modality[Any, Any]]) -> None:
        self.modalities = modalities

    def __call__(self, micro: MicroBatch) -> Batch:
        """The batch of a micro-batch."""
        batch = self.modalities[micro.modality].collate(micro.samples)
        # a worker's tensors arrive so: those made here must lie the same way, or sums would differ in their last bits
        batch.tensors = {name: tensor.contiguous() for name, tensor in batch.tensors.items()}
        batch.sample_ids = micro.sample_ids
        return batch

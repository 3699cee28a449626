"""Text: documents packed into rows, weighted next-token prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.modalities.text import TextConfig
from xoron_core.contract.special_tokens import BOS, EOS
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Artifact, Batch, LossTerms, Modality
from xoron_core.modalities.text.weighting import GROUP_TERMS, TokenWeighting, begins_inside
from xoron_core.model.cross_entropy import IGNORED
from xoron_core.model.xoron import XoronMultimodalModel


@dataclass(frozen=True)
class TextSample:
    """A document, a piece of one, or a row of several: ids, weights (0: not learned) and groups, each [T], and the
    length of each document in it."""

    origin: SampleOrigin
    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    groups: npt.NDArray[np.uint8]
    documents: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.ids)

    @property
    def shape(self) -> tuple[()]:
        """Rows are padded."""
        return ()

    def piece(self, start: int, stop: int) -> "TextSample":
        """The tokens from `start` up to `stop`, of a document."""
        part = slice(start, stop)
        return TextSample(self.origin, self.ids[part], self.weights[part], self.groups[part], (stop - start,))


class Text(Modality[TextSample, str]):
    """Next-token prediction on packed documents that never attend to one another."""

    name: ClassVar[str] = "text"
    components: ClassVar[frozenset[str]] = frozenset({"llm"})

    def __init__(self, config: RunConfig, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer)
        self.weighting = TokenWeighting(self.config, tokenizer)

    @property
    def config(self) -> TextConfig:
        """The section `modalities.text`."""
        return self.run_config.modalities.text

    @property
    def objective(self) -> Mapping[str, float]:
        """The weighted loss, and the experts' balance loss where that is how they are balanced."""
        balanced_by_loss = self.run_config.model.language.moe.balance == "aux_loss"
        return {"loss": 1.0, "moe_aux": 1.0} if balanced_by_loss else {"loss": 1.0}

    @property
    def row_length(self) -> int:
        """Tokens of a row."""
        return self.run_config.training.max_seq_length

    def prepare(self, record: Record, origin: SampleOrigin) -> TextSample:
        """The document in the field `text`, with a beginning and an end. Where `learned` has spans of its characters,
        the tokens that begin outside them weigh nothing; an end that is put to it belongs to the span it ends with.

        Raises: DataError when there is no text.
        """
        text = record.text("text")
        begin = "" if text.startswith(BOS) else BOS
        end = "" if text.rstrip().endswith(EOS) else EOS
        whole = begin + text + end
        learned = record.fields.get("learned")
        if learned is None:
            ids = np.array(self.tokenizer.encode(whole), dtype=np.int64)
            weighted = self.weighting(ids)
            return TextSample(origin, ids, weighted.weights_T, weighted.groups_T, (len(ids),))
        ids, starts_T = (np.array(found, dtype=np.int64) for found in self.tokenizer.encode_with_starts(whole))
        shift, last = len(begin), len(text.rstrip() if end else text)
        spans = [(start + shift, len(whole) if stop >= last else stop + shift) for start, stop in learned]
        weighted = self.weighting(ids)
        weights_T = np.where(begins_inside(starts_T, spans), weighted.weights_T, np.float32(0))
        return TextSample(origin, ids, weights_T, weighted.groups_T, (len(ids),))

    def join(self, samples: Sequence[TextSample]) -> TextSample:
        """The row of these documents and pieces."""
        return TextSample(
            samples[0].origin,
            np.concatenate([sample.ids for sample in samples]),
            np.concatenate([sample.weights for sample in samples]),
            np.concatenate([sample.groups for sample in samples]),
            tuple(length for sample in samples for length in sample.documents),
        )

    def collate(self, samples: Sequence[TextSample]) -> Batch:
        """Rows [B, T]: `input_ids`, `labels` (-100 where nothing is predicted), `loss_weights`, `groups`,
        `position_ids` (restart with every document) and `document_ids` (-1 is padding)."""
        shape = (len(samples), self.row_length)
        input_ids = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        labels = np.full(shape, IGNORED, dtype=np.int64)
        weights = np.zeros(shape, dtype=np.float32)
        groups = np.zeros(shape, dtype=np.uint8)
        position_ids = np.zeros(shape, dtype=np.int64)
        document_ids = np.full(shape, -1, dtype=np.int64)
        for row, sample in enumerate(samples):
            part = (row, slice(0, sample.length))
            input_ids[part] = sample.ids
            labels[part] = np.where(sample.weights > 0, sample.ids, IGNORED)
            weights[part] = sample.weights
            groups[part] = sample.groups
            position_ids[part] = np.concatenate([np.arange(length) for length in sample.documents])
            document_ids[part] = np.repeat(np.arange(len(sample.documents)), sample.documents)
            begins = np.cumsum(sample.documents) - sample.documents
            labels[row, begins] = IGNORED  # nothing before it predicts a document's first token
        weights[labels == IGNORED] = 0.0
        return Batch(
            modality=self.name,
            tensors={
                "input_ids": torch.from_numpy(input_ids),
                "labels": torch.from_numpy(labels),
                "loss_weights": torch.from_numpy(weights),
                "groups": torch.from_numpy(groups),
                "position_ids": torch.from_numpy(position_ids),
                "document_ids": torch.from_numpy(document_ids),
            },
            counts={"loss": float(weights.sum(dtype=np.float64)), "moe_aux": 1.0},
            num_samples=sum(len(sample.documents) for sample in samples),
            num_tokens=sum(sample.length for sample in samples),
            sample_ids=tuple(sample.origin.id for sample in samples),
        )

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Weighted loss, plain cross-entropy, and the unweighted mean inside the blocks of each group."""
        tensors = batch.tensors
        output = model.llm(
            tensors["input_ids"],
            position_ids_BT=tensors["position_ids"],
            document_ids_BT=tensors["document_ids"],
            labels_BT=tensors["labels"],
            loss_weights_BT=tensors["loss_weights"],
        )
        valid_BT = tensors["labels"] != IGNORED
        losses_BT = output.token_losses_BT
        terms = {
            "loss": (output.loss_sum, output.weight_sum),
            "ce": (losses_BT.sum(), valid_BT.sum()),
        }
        for bit, name in enumerate(GROUP_TERMS.values()):
            inside_BT = valid_BT & (tensors["groups"] >> bit & 1).bool()
            terms[name] = ((losses_BT * inside_BT).sum(), inside_BT.sum())
        if "moe_aux" in self.objective:
            terms["moe_aux"] = (output.aux_loss, torch.ones_like(output.aux_loss))
        return terms

    def derived(self, values: Mapping[str, float]) -> dict[str, float]:
        """Perplexity, from the unweighted cross-entropy."""
        return {"perplexity": exp(min(values["ce"], 700.0))} if "ce" in values else {}

    def prompts(self, held_out: Sequence[TextSample]) -> tuple[str, ...]:
        """Texts to go on with."""
        return self.config.sample_prompts

    def sample(self, model: XoronMultimodalModel, prompt: str, generator: torch.Generator) -> tuple[Artifact]:
        """The prompt and what the model makes of it."""
        device = next(model.parameters()).device
        ids = self.tokenizer.encode(prompt if prompt.startswith(BOS) else BOS + prompt)
        generated = model.llm.generate(
            torch.tensor([ids], device=device),
            max_new_tokens=self.config.sample_tokens,
            temperature=self.config.sample_temperature,
            generator=generator,
            eos_token_id=self.tokenizer.eos_id,
        )
        text = self.tokenizer.decode(generated[0].tolist())
        return (Artifact(text.encode(), "text/plain", "txt", prompt),)

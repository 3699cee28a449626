"""Text about media: a picture, a clip or sound in the prompt, and an answer that is learned.

Shapes: B rows, T tokens, M media embeddings of a row, P tokens of a prompt, N tokens of an answer.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.modalities.media_text import MediaTextConfig
from xoron_core.contract.special_tokens import EOS, PLACEHOLDER, opening
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Artifact, Batch, LossTerms, Modality
from xoron_core.model.cross_entropy import IGNORED
from xoron_core.model.generation import generate
from xoron_core.model.language_model import LanguageModelOutput
from xoron_core.model.media import MediaTokens
from xoron_core.model.xoron import XoronMultimodalModel

LENGTH_MULTIPLE = 8
"""Rows of a batch are padded to a multiple of this: few shapes, little padding."""

Media = TypeVar("Media", bound=np.generic)


@dataclass(frozen=True)
class MediaTextSample(Generic[Media]):
    """What was given, and the ids of the prompt (a placeholder for every media embedding) and of the answer."""

    origin: SampleOrigin
    media: npt.NDArray[Media]
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt_ids) + len(self.answer_ids)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of pictures and clips, which are stacked; sound is padded."""
        return self.media.shape if self.media.ndim > 1 else ()

    def piece(self, start: int, stop: int) -> "MediaTextSample[Media]":
        """Itself: it has no parts."""
        return self


def text_beside_media(record: Record, key: str) -> str:
    """A field that is read beside media.

    Raises: DataError when it is no text, or holds a placeholder, where an embedding would be put, or an end, where it
    would be cut off.
    """
    text = record.text(key)
    for token, meaning in ((opening(PLACEHOLDER), "stands for media"), (EOS, "ends a text")):
        if token in text:
            raise record.error(f"field {key!r} contains {token}, which {meaning}; take it out", "wrong_type")
    return text


def ended(tokenizer: Tokenizer, answer: str) -> tuple[int, ...]:
    """The ids of an answer and of its end."""
    return (*tokenizer.encode(answer), tokenizer.eos_id)


class MediaText(Modality[MediaTextSample[Any], MediaTextSample[Any]]):
    """The shared half of what reads media: subclasses say how media are prepared, collated, encoded and shown."""

    def __init__(self, config: RunConfig, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer)
        self.placeholder_id = tokenizer.token_id(opening(PLACEHOLDER))

    @property
    @abstractmethod
    def config(self) -> MediaTextConfig:
        """Its own section of the configuration."""

    @property
    def experts(self) -> tuple[MoeConfig, ...]:
        """The experts that media and text go through, of every component that has some."""
        return (self.run_config.model.language.moe,)

    @property
    def objective(self) -> Mapping[str, float]:
        """The answers' loss, and the experts' balance loss where that is how they are balanced."""
        balanced_by_loss = any(experts.balance == "aux_loss" for experts in self.experts)
        return {"loss": 1.0, "moe_aux": 1.0} if balanced_by_loss else {"loss": 1.0}

    @abstractmethod
    def collate_media(self, samples: Sequence[MediaTextSample[Any]]) -> dict[str, Tensor]:
        """What `encode_media` reads."""

    @abstractmethod
    def encode_media(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor]) -> MediaTokens:
        """Media embeddings in the width of the language model, as many a row as it has placeholders."""

    @abstractmethod
    def show_media(self, sample: MediaTextSample[Any], caption: str) -> tuple[Artifact, ...]:
        """The files that show what the model was given."""

    def ask(self, sample: MediaTextSample[Any]) -> str:
        """What a sample asks, as its caption says it: the words of the prompt."""
        return self.readable(sample.prompt_ids)

    def answer_ids(self, record: Record, answer: str) -> tuple[int, ...]:
        """The ids of an answer and of its end.

        Raises: DataError when it is longer than `max_answer_tokens`.
        """
        ids = ended(self.tokenizer, answer)
        if len(ids) > self.config.max_answer_tokens:
            raise record.error(
                f"the answer has {len(ids)} tokens, more than modalities.{self.name}.max_answer_tokens "
                f"{self.config.max_answer_tokens}; shorten it or raise the limit",
                "too_long",
            )
        return ids

    def collate(self, samples: Sequence[MediaTextSample[Any]]) -> Batch:
        """Rows [B, T], padded on the right: `input_ids`, `labels` (the answer; -100 elsewhere), `document_ids` (0, and
        -1 where there is padding), `prompt_lengths` [B], and what the media become."""
        rows = [(sample.prompt_ids, sample.answer_ids) for sample in samples]
        return Batch(
            modality=self.name,
            tensors={**answered_rows(rows, self.tokenizer.pad_id), **self.collate_media(samples)},
            counts={"loss": float(sum(len(sample.answer_ids) for sample in samples)), "moe_aux": 1.0},
            num_samples=len(samples),
            num_tokens=sum(sample.length for sample in samples),
            sample_ids=tuple(sample.origin.id for sample in samples),
        )

    def score(self, model: XoronMultimodalModel, batch: Batch, media: MediaTokens) -> LossTerms:
        """Cross-entropy of the answers under `loss`, a token at a time, given prompt and media; and the experts'
        balance loss where it is trained on."""
        output = score_answers(model, batch.tensors, self.placeholder_id, media)
        assert output.loss_sum is not None
        assert output.weight_sum is not None
        terms = {"loss": (output.loss_sum, output.weight_sum)}
        if "moe_aux" in self.objective:
            aux_loss = output.aux_loss if media.aux_loss is None else output.aux_loss + media.aux_loss
            terms["moe_aux"] = (aux_loss, torch.ones_like(aux_loss))
        return terms

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Cross-entropy of the answers, and what the experts' balance asks for."""
        return self.score(model, batch, self.encode_media(model, batch.tensors))

    def with_condition_of(
        self, sample: MediaTextSample[Any], other: MediaTextSample[Any]
    ) -> MediaTextSample[Any] | None:
        """The question and answer with another's media, which have as many embeddings."""
        return replace(sample, media=other.media)

    def derived(self, values: Mapping[str, float]) -> dict[str, float]:
        """Perplexity of the answers."""
        return {"perplexity": exp(min(values["loss"], 700.0))} if "loss" in values else {}

    @torch.no_grad()
    def answer(self, model: XoronMultimodalModel, batch: Batch, media: MediaTokens | None = None) -> list[str]:
        """The likeliest answers, greedily, one a row; `media` saves encoding once more."""
        tensors = batch.tensors
        media = self.encode_media(model, tensors) if media is None else media
        prompt_ids_BP, mask_BP = left_padded(tensors["input_ids"], tensors["prompt_lengths"], self.tokenizer.pad_id)
        embedded_BPD, fused = model.embed(prompt_ids_BP, self.placeholder_id, media)
        ids_BN = generate(
            model.llm,
            embedded_BPD,
            prompt_mask_BT=mask_BP,
            media=fused,
            max_new_tokens=self.config.max_answer_tokens,
            temperature=0.0,
            generator=None,
            eos_token_id=self.tokenizer.eos_id,
        )
        return [self.readable(ids) for ids in ids_BN.tolist()]

    def truths(self, batch: Batch) -> list[str]:
        """The answers that were to be given, as `answer` writes them."""
        return [self.readable([token for token in row if token != IGNORED]) for row in batch.tensors["labels"].tolist()]

    def readable(self, ids: Sequence[int]) -> str:
        """The text of an answer up to its end, without tags."""
        ids = list(ids)
        ids = ids[: ids.index(self.tokenizer.eos_id)] if self.tokenizer.eos_id in ids else ids
        return self.tokenizer.decode_plain(ids).strip()

    def prompts(self, held_out: Sequence[MediaTextSample[Any]]) -> Sequence[MediaTextSample[Any]]:
        """Rows that are held out, spread evenly."""
        count = min(self.config.sample_count, len(held_out))
        return [held_out[int(at)] for at in np.linspace(0, len(held_out) - 1, count)]

    def sample(
        self, model: XoronMultimodalModel, prompt: MediaTextSample[Any], generator: torch.Generator
    ) -> tuple[Artifact, ...]:
        """What was given, and the model's answer beside the true one."""
        batch = self.collate([prompt]).to(next(model.parameters()).device)
        caption = self.ask(prompt)
        [answer], [truth] = self.answer(model, batch), self.truths(batch)
        text = Artifact(answer.encode(), "text/plain", "txt", caption, expected=truth)
        return (*self.show_media(prompt, caption), text)


def answered_rows(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> dict[str, Tensor]:
    """Prompts and their answers as rows [B, T], padded on the right: `input_ids`, `labels` (the answer; -100
    elsewhere), `document_ids` (0, and -1 where there is padding), `prompt_lengths` [B]."""
    lengths = [len(prompt) + len(answer) for prompt, answer in rows]
    shape = (len(rows), -(-max(lengths) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    document_ids = np.full(shape, -1, dtype=np.int64)
    for row, ((prompt, answer), length) in enumerate(zip(rows, lengths, strict=True)):
        input_ids[row, :length] = [*prompt, *answer]
        labels[row, len(prompt) : length] = answer
        document_ids[row, :length] = 0
    return {
        "input_ids": torch.from_numpy(input_ids),
        "labels": torch.from_numpy(labels),
        "document_ids": torch.from_numpy(document_ids),
        "prompt_lengths": torch.tensor([len(prompt) for prompt, _ in rows]),
    }


def score_answers(
    model: XoronMultimodalModel, tensors: Mapping[str, Tensor], placeholder_id: int, media: MediaTokens
) -> LanguageModelOutput:
    """A pass over such rows, each with media in the places of its placeholders; with the loss of the answers."""
    embedded_BTD, fused = model.embed(tensors["input_ids"], placeholder_id, media)
    output: LanguageModelOutput = model.llm(
        inputs_embeds_BTD=embedded_BTD,
        document_ids_BT=tensors["document_ids"],
        media=fused,
        labels_BT=tensors["labels"],
    )
    return output


def left_padded(input_ids_BT: Tensor, prompt_lengths_B: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """The prompts alone, moved to the right end of [B, P], and where they stand (True)."""
    num_prompt = int(prompt_lengths_B.max().item())
    places_P = torch.arange(num_prompt, device=input_ids_BT.device)
    from_BP = places_P - (num_prompt - prompt_lengths_B).unsqueeze(1)
    mask_BP = from_BP >= 0
    ids_BP = input_ids_BT.gather(1, from_BP.clamp(min=0))
    return torch.where(mask_BP, ids_BP, pad_id), mask_BP

"""Questions about a picture or a clip, in the form of a conversation."""

from typing import ClassVar, NamedTuple

import torch

from xoron_core.contract.special_tokens import BOS, PLACEHOLDER, closing, opening
from xoron_core.data.records import Record
from xoron_core.modalities.base import Batch, LossTerms
from xoron_core.modalities.media_text import MediaText, text_beside_media
from xoron_core.model.xoron import XoronMultimodalModel


class Turn(NamedTuple):
    """One question and its answer, as ids."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


class MediaQuestions(MediaText):
    """What image and video understanding share: the conversation, and how many answers are exactly right."""

    tag: ClassVar[str]
    """Name of the special tokens around the media."""

    def turn(self, record: Record, num_media: int) -> Turn:
        """The conversation of a row's `question` and `answer`, with `num_media` placeholders before the question.

        Raises: DataError when one of them is missing or holds a placeholder, or the answer is too long.
        """
        media = opening(self.tag) + opening(PLACEHOLDER) * num_media + closing(self.tag)
        question, answer = (text_beside_media(record, key) for key in ("question", "answer"))
        prompt = f"{BOS}<|user|>\n{media}{question}\n<|/user|><|assistant|>\n"
        answer_ids = self.answer_ids(record, f"{answer}\n<|/assistant|>")
        return Turn(tuple(self.tokenizer.encode(prompt)), answer_ids)

    def evaluate(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """The loss, and the share of answers that greedy decoding gives exactly."""
        media = self.encode_media(model, batch.tensors)
        pairs = zip(self.answer(model, batch, media), self.truths(batch), strict=True)
        num_exact = sum(answer == truth for answer, truth in pairs)
        device = batch.tensors["labels"].device
        exact = torch.tensor(float(num_exact), device=device), torch.tensor(float(batch.num_samples), device=device)
        return {**self.score(model, batch, media), "exact": exact}

"""The heavy half: the decoder learns to spell a word backwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.base import Artifact, Batch, LossTerms, Modality
from xoron_core.model.cross_entropy import IGNORED
from xoron_core.model.xoron import XoronMultimodalModel


@dataclass(frozen=True)
class Word:
    origin: SampleOrigin
    letters: tuple[int, ...]

    @property
    def length(self) -> int:
        return 2 * len(self.letters)

    @property
    def shape(self) -> tuple[()]:
        return ()

    def piece(self, start: int, stop: int) -> "Word":
        return self


class Backwards(Modality[Word, Word]):
    name: ClassVar[str] = "backwards"
    components: ClassVar[frozenset[str]] = frozenset({"llm"})

    def prepare(self, record: Record, origin: SampleOrigin) -> Word:
        return Word(origin, tuple(self.tokenizer.token_id(letter) for letter in record.text("word")))

    def collate(self, samples: Sequence[Word]) -> Batch:
        length = max(len(sample.letters) for sample in samples)
        ids = torch.full((len(samples), 2 * length), self.tokenizer.pad_id)
        labels = torch.full((len(samples), 2 * length), IGNORED)
        for row, sample in enumerate(samples):
            count = len(sample.letters)
            ids[row, : 2 * count] = torch.tensor(sample.letters + sample.letters[::-1])
            labels[row, count : 2 * count] = ids[row, count : 2 * count]
        counts = {"loss": float((labels != IGNORED).sum())}
        names = tuple(sample.origin.id for sample in samples)
        return Batch(self.name, {"ids": ids, "labels": labels}, counts, len(samples), ids.numel(), names)

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        output = model.llm(batch.tensors["ids"], labels_BT=batch.tensors["labels"])
        return {"loss": (output.loss_sum, output.weight_sum)}

    def evaluate(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        ids, labels = batch.tensors["ids"], batch.tensors["labels"]
        output = model.llm(ids, labels_BT=labels, return_logits=True)
        assert output.logits_BTV is not None
        right: Tensor = (output.logits_BTV[:, :-1].argmax(dim=-1) == labels[:, 1:]).sum()
        return {"loss": (output.loss_sum, output.weight_sum), "letters": (right, output.weight_sum)}

    def prompts(self, held_out: Sequence[Word]) -> Sequence[Word]:
        return held_out[:1]

    def sample(self, model: XoronMultimodalModel, prompt: Word, generator: torch.Generator) -> tuple[Artifact, ...]:
        given = torch.tensor([prompt.letters])
        made = model.llm.generate(given, max_new_tokens=len(prompt.letters), temperature=0.0)
        written = [self.tokenizer.decode(ids) for ids in (made[0, given.shape[1] :].tolist(), prompt.letters)]
        return (Artifact(written[0].encode(), "text/plain", "txt", written[1], expected=written[1][::-1]),)

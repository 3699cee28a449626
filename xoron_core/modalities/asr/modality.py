"""Speech recognition: sound as a prefix of the language model, the transcript by cross-entropy, CTC beside it.

Shapes: B rows, T samples, C bytes of a transcript, F frames, M embeddings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from xoron_core.contract.config.audio_encoder import SAMPLE_RATE
from xoron_core.contract.modalities.asr import AsrConfig
from xoron_core.contract.special_tokens import BOS, PLACEHOLDER, closing, opening
from xoron_core.data.audio import read_audio
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.asr.transcripts import character_errors, normalised, num_ctc_frames, word_errors
from xoron_core.modalities.audio_files import wav_artifact
from xoron_core.modalities.base import Artifact, Batch, LossTerms
from xoron_core.modalities.media_text import MediaText, MediaTextSample, text_beside_media
from xoron_core.model.media import MediaTokens
from xoron_core.model.speech.audio_encoder import AudioFeatures
from xoron_core.model.speech.audio_projector import num_audio_tokens
from xoron_core.model.speech.mel import num_frames
from xoron_core.model.xoron import XoronMultimodalModel

SAMPLES_MULTIPLE = 4096
"""Waveforms of a batch are padded to a multiple of this (0.256 s): few shapes, little padding."""


@dataclass(frozen=True)
class SpeechSample(MediaTextSample[np.float32]):
    """A waveform, its transcript as ids, and as the bytes that CTC learns."""

    ctc_target: bytes

    @property
    def fits_ctc(self) -> bool:
        """Whether the sound has frames enough for its bytes."""
        return num_ctc_frames(self.ctc_target) <= num_frames(len(self.media))


def speech_prompt(tokenizer: Tokenizer, num_samples: int) -> tuple[int, ...]:
    """The ids of what stands before a transcript: a placeholder for each embedding of so many samples of sound."""
    media = opening("audio") + opening(PLACEHOLDER) * num_audio_tokens(num_samples) + closing("audio")
    return tuple(tokenizer.encode(BOS + media))


class Asr(MediaText):
    """Speech to text."""

    name: ClassVar[str] = "asr"
    components: ClassVar[frozenset[str]] = frozenset({"llm", "fusion", "audio_encoder", "audio_projector", "ctc_head"})

    @property
    def config(self) -> AsrConfig:
        """The section `modalities.asr`."""
        return self.run_config.modalities.asr

    @property
    def objective(self) -> Mapping[str, float]:
        """The headline, what the decoder's experts ask for where it runs, and CTC where both are learned."""
        if self.config.asr_loss == "ctc":
            return {"loss": 1.0}
        if self.config.asr_loss == "both":
            return {**super().objective, "ctc_loss": self.config.ctc_loss_weight}
        return super().objective

    def prepare(self, record: Record, origin: SampleOrigin) -> SpeechSample:
        """The sound that the field `audio` names, and the field `text`.

        Raises: DataError when the sound cannot be read, is longer than `max_audio_s` or too short for its transcript,
        or when there is no word in the transcript, or too many.
        """
        text = text_beside_media(record, "text").strip()
        target = normalised(text).encode()
        if not target:
            raise record.error(f"field 'text' has no word, got {text!r:.80}; remove the row", "empty")
        waveform_T = read_audio(record, "audio", SAMPLE_RATE, self.config.max_audio_s)
        prompt_ids = speech_prompt(self.tokenizer, len(waveform_T))
        sample = SpeechSample(origin, waveform_T, prompt_ids, self.answer_ids(record, text), target)
        if self._learns_ctc and not sample.fits_ctc:
            raise record.error(
                f"{len(waveform_T) / SAMPLE_RATE:.2f} s of sound are too short for {len(target)} bytes of transcript; "
                "mend the row, or set modalities.asr.asr_loss to cross_entropy",
                "too_short",
            )
        return sample

    @property
    def _learns_ctc(self) -> bool:
        return self.config.asr_loss != "cross_entropy"

    @staticmethod
    def _speech(sample: MediaTextSample[Any]) -> SpeechSample:
        """A sample that `prepare` made."""
        assert isinstance(sample, SpeechSample)
        return sample

    def with_condition_of(
        self, sample: MediaTextSample[Any], other: MediaTextSample[Any]
    ) -> MediaTextSample[Any] | None:
        """The transcript with another's sound; None where CTC has no room for it there."""
        mixed = replace(self._speech(sample), media=other.media, prompt_ids=other.prompt_ids)
        return mixed if mixed.fits_ctc or not self._learns_ctc else None

    def collate(self, samples: Sequence[MediaTextSample[Any]]) -> Batch:
        """As of all media, and `waveforms` [B, T], `num_samples` [B], `ctc_targets` [B, C], `num_targets` [B]."""
        batch = super().collate(samples)
        num_bytes = float(batch.tensors["num_targets"].sum())
        batch.counts["ctc_loss"] = num_bytes
        if self.config.asr_loss == "ctc":
            batch.counts["loss"] = num_bytes
        return batch

    def collate_media(self, samples: Sequence[MediaTextSample[Any]]) -> dict[str, Tensor]:
        """Waveforms and the bytes of transcripts, with zeros on the right."""
        longest = max(len(sample.media) for sample in samples)
        waveforms = np.zeros((len(samples), -(-longest // SAMPLES_MULTIPLE) * SAMPLES_MULTIPLE), dtype=np.float32)
        targets = [self._speech(sample).ctc_target for sample in samples]
        target_bytes = np.zeros((len(samples), max(map(len, targets))), dtype=np.int64)
        for row, (sample, target) in enumerate(zip(samples, targets, strict=True)):
            waveforms[row, : len(sample.media)] = sample.media
            target_bytes[row, : len(target)] = list(target)
        return {
            "waveforms": torch.from_numpy(waveforms),
            "num_samples": torch.tensor([len(sample.media) for sample in samples]),
            "ctc_targets": torch.from_numpy(target_bytes),
            "num_targets": torch.tensor([len(target) for target in targets]),
        }

    def hear(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor]) -> AudioFeatures:
        """What the encoder makes of the waveforms."""
        features: AudioFeatures = model.audio_encoder(tensors["waveforms"], tensors["num_samples"])
        return features

    def encode_media(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor]) -> MediaTokens:
        """Embeddings of the waveforms, 31.25 a second."""
        tokens: MediaTokens = model.audio_projector(self.hear(model, tensors))
        return tokens

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Cross-entropy of the transcripts and CTC loss of their bytes, or one of them."""
        features = self.hear(model, batch.tensors)
        terms: LossTerms = {}
        if self.config.asr_loss != "ctc":
            terms = self.score(model, batch, model.audio_projector(features))
        if self._learns_ctc:
            slow = model.audio_encoder.averaged_to_mel_rate(features)
            num_targets_B = batch.tensors["num_targets"]
            ctc_sum = model.ctc_head.loss_sum(slow, batch.tensors["ctc_targets"], num_targets_B)
            terms["ctc_loss"] = (ctc_sum, num_targets_B.sum())
        return terms if "loss" in terms else {"loss": terms["ctc_loss"], **terms}

    def answer(self, model: XoronMultimodalModel, batch: Batch, media: MediaTokens | None = None) -> list[str]:
        """The likeliest transcripts: the decoder's, greedily, or with CTC alone those along the likeliest bytes."""
        if self.config.asr_loss != "ctc":
            return super().answer(model, batch, media)
        slow = model.audio_encoder.averaged_to_mel_rate(self.hear(model, batch.tensors))
        return [spelled.decode(errors="replace") for spelled in model.ctc_head.decode(slow)]

    def evaluate(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """The losses, and errors of words and characters of the greedy transcripts."""
        terms = self.loss(model, batch)
        answers = [normalised(answer) for answer in self.answer(model, batch)]
        truths = [normalised(truth) for truth in self.truths(batch)]
        device = batch.tensors["labels"].device
        for name, counts in (("wer", word_errors(truths, answers)), ("cer", character_errors(truths, answers))):
            errors, units = (torch.tensor(float(count), device=device) for count in counts)
            terms[name] = (errors, units)
        return terms

    def derived(self, values: Mapping[str, float]) -> dict[str, float]:
        """Nothing: word errors say more than perplexity."""
        return {}

    def ask(self, sample: MediaTextSample[Any]) -> str:
        """The same for every sound."""
        return "What is said?"

    def show_media(self, sample: MediaTextSample[Any], caption: str) -> tuple[Artifact, ...]:
        """The sound, as WAV."""
        return (wav_artifact(sample.media, SAMPLE_RATE, caption),)

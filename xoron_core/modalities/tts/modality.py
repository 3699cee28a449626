"""Speech synthesis: text to a mel spectrogram by learned durations, the spectrogram to a waveform.

Text is spelled, a token for each character: a word-piece has no place of its own in the sound, and its length in
characters says nothing of how long it takes to speak. The characters' ids are those of the same tokenizer, which gets
them one by one, and their embeddings those of the language model's table.

Every term of the loss is a mean over a recording's own frames, tokens or samples, added up over recordings: its count
is their number. Shapes: B recordings, T samples, F frames, M mel bins, N tokens, R frames of a reference clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from xoron_core.contract.config.audio_encoder import SAMPLE_RATE
from xoron_core.contract.modalities.tts import TtsConfig
from xoron_core.data.audio import read_audio
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.audio_files import wav_artifact
from xoron_core.modalities.base import Artifact, Batch, LossTerms, Modality
from xoron_core.modalities.tts.reconstruction import (
    SEGMENT_FRAMES,
    Segments,
    masked_mean,
    mel_errors,
    padded_frames,
    waveform_segments,
)
from xoron_core.modalities.tts.spectrogram import spectrogram_artifact
from xoron_core.modalities.tts.spoken import SpeechPrompt, SpokenSample, spell
from xoron_core.model.speech.audio_decoder import AudioDecoderOutput, Recording
from xoron_core.model.speech.mel import HOP, compute_mel_spectrogram
from xoron_core.model.speech.pitch import track_pitch
from xoron_core.model.speech.spectral_loss import spectral_distance
from xoron_core.model.speech.waveform_decoder import WaveformDecoder
from xoron_core.model.xoron import XoronMultimodalModel

TOKENS_MULTIPLE = 16
"""Texts of a batch are padded to a multiple of this: few shapes, little padding."""


class Tts(Modality[SpokenSample, SpeechPrompt]):
    """Text to speech."""

    name: ClassVar[str] = "tts"
    components: ClassVar[frozenset[str]] = frozenset(
        {"llm", "audio_encoder", "speaker_encoder", "audio_decoder", "waveform_decoder"}
    )

    @property
    def config(self) -> TtsConfig:
        """The section `modalities.tts`."""
        return self.run_config.modalities.tts

    @property
    def objective(self) -> Mapping[str, float]:
        """The headline (mel and waveform, as in the reference), and what the modality adds."""
        config = self.config
        return {
            "loss": 1.0,
            "stft_loss": config.stft_loss_weight,
            "duration_loss": config.duration_loss_weight,
            "pitch_loss": config.pitch_loss_weight,
            "energy_loss": config.energy_loss_weight,
            "alignment_loss": config.alignment_loss_weight,
        }

    def prepare(self, record: Record, origin: SampleOrigin) -> SpokenSample:
        """The sound that the field `audio` names, and the field `text`.

        Raises: DataError when the sound cannot be read, is longer than `max_audio_s` or too short for its text, or when
        there is no text.
        """
        waveform_T = read_audio(record, "audio", SAMPLE_RATE, self.config.max_audio_s)
        sample = SpokenSample(origin, waveform_T, self.spell(record.text("text")), *track_pitch(waveform_T))
        if not sample.has_room:
            raise record.error(
                f"{len(waveform_T) / SAMPLE_RATE:.2f} s of sound are too short for {len(sample.token_ids)} tokens of "
                f"text, each of which takes {1000 * HOP / SAMPLE_RATE:.0f} ms at least; mend or remove the row",
                "too_short",
            )
        return sample

    def spell(self, text: str) -> tuple[int, ...]:
        """The ids of a text's characters, one by one, between beginning and end, which silence is aligned with."""
        return spell(self.tokenizer, text)

    def with_condition_of(self, sample: SpokenSample, other: SpokenSample) -> SpokenSample | None:
        """The recording with another's text; None where it is too short for it."""
        mixed = replace(sample, token_ids=other.token_ids)
        return mixed if mixed.has_room else None

    def collate(self, samples: Sequence[SpokenSample]) -> Batch:
        """`waveforms` [B, T] and their lengths `num_samples` [B], `token_ids` and `token_mask` [B, N], `pitch` and
        `voicing` [B, F], and what is drawn from each sample's seed: `has_reference` [B], `reference_frames` [B, R] and
        their `reference_mask`, `segment_start` [B], a frame."""
        frames = padded_frames(max(sample.num_frames for sample in samples))
        tokens = _rounded_up(max(len(sample.token_ids) for sample in samples), TOKENS_MULTIPLE)
        token_ids = _padded([np.array(sample.token_ids) for sample in samples], tokens, self.tokenizer.pad_id)
        num_tokens_B = torch.tensor([len(sample.token_ids) for sample in samples])
        clip = max(1, round(self.config.speaker_reference_s * SAMPLE_RATE / HOP))
        draws = [sample.draw(self.config.speaker_reference_rate, clip, SEGMENT_FRAMES) for sample in samples]
        terms = ("mel_loss", "waveform_loss", *self.objective)
        return Batch(
            modality=self.name,
            tensors={
                "waveforms": _padded([sample.waveform for sample in samples], frames * HOP),
                "num_samples": torch.tensor([len(sample.waveform) for sample in samples]),
                "token_ids": token_ids,
                "token_mask": torch.arange(tokens) < num_tokens_B.unsqueeze(1),
                "pitch": _padded([sample.pitch for sample in samples], frames),
                "voicing": _padded([sample.voicing for sample in samples], frames),
                "has_reference": torch.stack([draw.has_reference for draw in draws]),
                "reference_frames": torch.stack([draw.reference_frames_R for draw in draws]),
                "reference_mask": torch.stack([draw.reference_mask_R for draw in draws]),
                "segment_start": torch.stack([draw.segment_start for draw in draws]),
            },
            counts=dict.fromkeys(terms, float(len(samples))),
            num_samples=len(samples),
            num_tokens=0,
            sample_ids=tuple(sample.origin.id for sample in samples),
        )

    def loss(self, model: XoronMultimodalModel, batch: Batch) -> LossTerms:
        """Terms of the spectrogram, of the waveform, of what is predicted of tokens, and of the alignment."""
        tensors = batch.tensors
        with torch.no_grad():
            mel_BFM = compute_mel_spectrogram(tensors["waveforms"])
        output = self._speak(model, tensors, mel_BFM)
        mel_B = mel_errors(output, mel_BFM)
        segments = self._segments(model, tensors, output.mel_BFM)
        waveform_B = segments.errors()
        assert output.spoken is not None
        assert output.alignment_loss_B is not None
        mask_BN = tensors["token_mask"]
        log_durations_BN = output.durations_BN.clamp(min=1).log()
        voicing_BN = output.spoken.voicing_BN
        voicing_error_BN = F.binary_cross_entropy_with_logits(
            output.predicted.voicing_BN.float(), voicing_BN, reduction="none"
        )
        pitch_error_BN = (output.predicted.pitch_BN.float() - output.spoken.pitch_BN).square() * voicing_BN
        values = {
            "loss": mel_B + self.config.waveform_loss_weight * waveform_B,
            "mel_loss": mel_B,
            "waveform_loss": waveform_B,
            "stft_loss": spectral_distance(segments.predicted_BT, segments.target_BT),
            "duration_loss": masked_mean((output.log_durations_BN.float() - log_durations_BN).square(), mask_BN),
            "pitch_loss": masked_mean(pitch_error_BN + voicing_error_BN, mask_BN),
            "energy_loss": masked_mean(
                (output.predicted.energy_BN.float() - output.spoken.energy_BN).square(), mask_BN
            ),
            "alignment_loss": output.alignment_loss_B,
        }
        count = torch.full((), float(batch.num_samples), device=mel_B.device)
        return {name: (value_B.sum(), count) for name, value_B in values.items()}

    def _speak(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor], mel_BFM: Tensor) -> AudioDecoderOutput:
        """The texts, spoken as their recordings were: the same durations, pitch and energy."""
        heard = model.audio_encoder(tensors["waveforms"], tensors["num_samples"])
        features = model.audio_encoder.averaged_to_mel_rate(heard)
        clips_BR1 = tensors["reference_frames"].unsqueeze(-1)
        clips_BRM = mel_BFM.gather(1, clips_BR1.expand(-1, -1, mel_BFM.shape[-1]))
        return model.audio_decoder.predict(
            model.llm.model.embed_tokens(tensors["token_ids"]),
            tensors["token_mask"],
            speaker_BS=model.speaker_encoder(clips_BRM, tensors["reference_mask"]),
            has_speaker_B=tensors["has_reference"],
            recording=Recording(features.features_BFD, features.mask_BF, mel_BFM, tensors["pitch"], tensors["voicing"]),
        )

    def _segments(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor], mel_BFM: Tensor) -> Segments:
        """A segment of each recording."""
        return waveform_segments(
            _decoder_of(model), mel_BFM, tensors["waveforms"], tensors["num_samples"], tensors["segment_start"]
        )

    def prompts(self, held_out: Sequence[SpokenSample]) -> Sequence[SpeechPrompt]:
        """The configured texts; the last in the voice of the first held-out recording."""
        prompts = [SpeechPrompt(text) for text in self.config.sample_prompts]
        if prompts and held_out:
            prompts[-1] = replace(prompts[-1], voice=held_out[0])
        return prompts

    def sample(
        self, model: XoronMultimodalModel, prompt: SpeechPrompt, generator: torch.Generator
    ) -> tuple[Artifact, ...]:
        """The text as sound, and the spectrogram that it was made from; durations, pitch and energy are the model's."""
        device = next(model.parameters()).device
        token_ids = torch.tensor([self.spell(prompt.text)], device=device)
        speaker_BS = None
        if prompt.voice is not None:
            voice_BFM = compute_mel_spectrogram(torch.from_numpy(prompt.voice.waveform).to(device).unsqueeze(0))
            speaker_BS = model.speaker_encoder(voice_BFM, torch.ones_like(voice_BFM[..., 0], dtype=torch.bool))
        mel_BFM = model.audio_decoder.predict(model.llm.model.embed_tokens(token_ids), speaker_BS=speaker_BS).mel_BFM
        waveform_T = _decoder_of(model)(mel_BFM.transpose(1, 2))[0].float().cpu().numpy()
        return (
            wav_artifact(waveform_T, SAMPLE_RATE, prompt.caption),
            spectrogram_artifact(mel_BFM[0].float().cpu().numpy(), prompt.caption),
        )


def _rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _padded(rows: Sequence[npt.NDArray[np.generic]], length: int, fill: float = 0) -> Tensor:
    """The rows as a tensor [B, length], filled on the right."""
    padded = np.full((len(rows), length), fill, dtype=rows[0].dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return torch.from_numpy(padded)


def _decoder_of(model: XoronMultimodalModel) -> WaveformDecoder:
    """The waveform decoder, which is among the modality's components."""
    assert model.waveform_decoder is not None
    return model.waveform_decoder

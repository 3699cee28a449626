"""The reference's training steps: one loss of one modality, from tensors and texts.

They compute what the modalities compute (`xoron_core.modalities`), by the same functions, but draw noise and times
themselves, and leave out what the modalities add: dropped prompts, first frames, temporal consistency, CTC, the true
pitch, and the terms of speech synthesis beside its headline.

Shapes: B samples, T frames of a clip or samples of a sound, C channels, H × W pixels, F frames of a spectrogram,
L tokens of a prompt, N of a text, D width of the language model, M mel bins, S width of a voice.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xoron_core.contract.errors import XoronError
from xoron_core.contract.special_tokens import PLACEHOLDER, opening
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.asr.modality import speech_prompt
from xoron_core.modalities.image_generation.modality import flow_errors
from xoron_core.modalities.media_text import answered_rows, ended, score_answers
from xoron_core.modalities.tts.reconstruction import SEGMENT_FRAMES, mel_errors, padded_frames, waveform_segments
from xoron_core.modalities.tts.spoken import spell
from xoron_core.modalities.video_generation.modality import clip_errors
from xoron_core.model.prompts import padded_prompts
from xoron_core.model.speech.audio_decoder import Recording
from xoron_core.model.speech.mel import HOP, num_frames
from xoron_core.model.xoron import XoronMultimodalModel

WAVEFORM_WEIGHT = 0.1
"""Of the waveform's error beside the spectrogram's."""
EVAL_SEED = 1234
"""Decides noise, times and segments of every evaluation step, so that two of them compare."""


class BatchError(XoronError):
    """A batch of the reference's form with something missing or misshapen; `key` says where."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(f"{key}: {reason}")


def train_image_diffusion_step(
    model: XoronMultimodalModel, images: Tensor, prompts: Sequence[str], *, generator: torch.Generator | None = None
) -> Tensor:
    """Flow matching of pictures [B, 3, H, W] in [-1, 1] from their prompts; a scalar.

    Times, then noise, are drawn by `generator` on the pictures' device (None: torch's own).
    Raises: BatchError for another shape or number of prompts, and for sides that latents or patches do not fill.
    """
    _check_shape("gen_images", images, "[B, 3, H, W]", 4, channels_at=1)
    _check_number("gen_prompts", prompts, len(images), "pictures")
    states_BLD, mask_BL = _read_prompts(model, prompts)
    with blaming("gen_images"):
        latents_BCHW = model.encode_images(images)
        times_B, noise_BCHW = _times_and_noise(latents_BCHW, generator)
        found = flow_errors(model.generator, latents_BCHW, noise_BCHW, times_B, states_BLD, mask_BL)
    return found.errors_B.mean() + found.aux_loss


def train_video_diffusion_step(
    model: XoronMultimodalModel, videos: Tensor, prompts: Sequence[str], *, generator: torch.Generator | None = None
) -> Tensor:
    """Flow matching of clips [B, T, 3, H, W] in [-1, 1] from their prompts, no frame given; a scalar.

    Times, then noise, are drawn by `generator` on the clips' device (None: torch's own).
    Raises: as `train_image_diffusion_step`.
    """
    _check_shape("gen_videos", videos, "[B, T, 3, H, W]", 5, channels_at=2)
    _check_number("gen_prompts", prompts, len(videos), "clips")
    states_BLD, mask_BL = _read_prompts(model, prompts)
    with blaming("gen_videos"):
        latents_BTCHW = model.encode_videos(videos)
        times_B, noise_BTCHW = _times_and_noise(latents_BTCHW, generator)
        given_B = torch.zeros_like(times_B, dtype=torch.bool)
        found = clip_errors(model.video_generator, latents_BTCHW, noise_BTCHW, times_B, states_BLD, mask_BL, given_B)
    return found.errors_B.mean() + found.aux_loss


def train_voice_asr_step(model: XoronMultimodalModel, audio: Tensor, transcripts: Sequence[str]) -> Tensor:
    """Cross-entropy of transcripts after the sound that they are of; a scalar.

    `audio`: waveforms [B, T] at 16 kHz, or for an encoder that reads mels their spectrograms [B, 80, F].
    Raises: BatchError for another shape than the encoder reads or another number of transcripts, or a transcript that
    holds a placeholder.
    """
    if audio.ndim not in (2, 3) or not audio.numel():
        raise BatchError("audio", f"expected [B, T] or [B, 80, F], got {tuple(audio.shape)}")
    _check_number("transcripts", transcripts, len(audio), "sounds")
    if held := [text for text in transcripts if opening(PLACEHOLDER) in text]:
        raise BatchError("transcripts", f"{opening(PLACEHOLDER)} stands for media; take it out of {held[0]!r:.80}")
    tokenizer = tokenizer_of(model)
    num_samples = audio.shape[1] if audio.ndim == 2 else audio.shape[2] * HOP
    prompt = speech_prompt(tokenizer, num_samples)
    rows = answered_rows([(prompt, ended(tokenizer, text)) for text in transcripts], tokenizer.pad_id)
    tensors = {name: tensor.to(audio.device) for name, tensor in rows.items()}
    with blaming("audio"):
        media = model.audio_projector(model.audio_encoder(audio))
    output = score_answers(model, tensors, tokenizer.token_id(opening(PLACEHOLDER)), media)
    assert output.loss_sum is not None
    assert output.weight_sum is not None
    return output.loss_sum / output.weight_sum + output.aux_loss


def train_voice_tts_step(
    model: XoronMultimodalModel,
    text: str | Sequence[str],
    target_audio: Tensor,
    speaker_ref: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean absolute error of the spectrogram, and where there is a waveform decoder 0.1 times that of a random segment
    of the waveform; a scalar.

    `target_audio`: waveforms [B, T] at 16 kHz; `speaker_ref`: [B, T'], in whose voice. Segments are drawn by
    `generator` on the sound's device (None: torch's own).
    Raises: BatchError for another shape or number of texts, or a sound with fewer frames than its text has tokens.
    """
    texts = [text] if isinstance(text, str) else list(text)
    _check_shape("target_audio", target_audio, "[B, T]", 2)
    _check_number("text", texts, len(target_audio), "sounds")
    device, num_samples = target_audio.device, target_audio.shape[1]
    frames = num_frames(num_samples)
    tokens = [spell(tokenizer_of(model), one) for one in texts]
    if (longest := max(map(len, tokens))) > frames:
        raise BatchError("text", f"{longest} tokens are too many for {frames} frames of target_audio; cut the text")
    ids_BN, mask_BN = (tensor.to(device) for tensor in padded_prompts(tokens, tokenizer_of(model).pad_id))
    waveforms_BT = F.pad(target_audio, (0, padded_frames(frames) * HOP - num_samples))
    num_samples_B = torch.full((len(texts),), num_samples, device=device)
    with torch.no_grad():
        mel_BFM = model.compute_mel_spectrogram(waveforms_BT)
    features = model.audio_encoder.averaged_to_mel_rate(model.audio_encoder(waveforms_BT, num_samples_B))
    output = model.audio_decoder.predict(
        model.llm.model.embed_tokens(ids_BN),
        mask_BN,
        speaker_BS=_voices(model, speaker_ref, len(texts)),
        recording=Recording(features.features_BFD, features.mask_BF, mel_BFM),
    )
    mel_loss = mel_errors(output, mel_BFM).mean()
    if model.waveform_decoder is None:
        return mel_loss
    start_B = torch.rand(len(texts), generator=generator, device=device) * (max(frames - SEGMENT_FRAMES, 0) + 1)
    segments = waveform_segments(model.waveform_decoder, output.mel_BFM, waveforms_BT, num_samples_B, start_B.long())
    return mel_loss + WAVEFORM_WEIGHT * segments.errors().mean()


@torch.no_grad()
def eval_image_diffusion_step(model: XoronMultimodalModel, batch: Mapping[str, Any]) -> Tensor:
    """The loss of `gen_images` from `gen_prompts`, the same noise and times at every call."""
    images, prompts = take(batch, "gen_images", "gen_prompts")
    return train_image_diffusion_step(model, images, prompts, generator=_eval_generator(images))


@torch.no_grad()
def eval_video_diffusion_step(model: XoronMultimodalModel, batch: Mapping[str, Any]) -> Tensor:
    """The loss of `gen_videos` from `gen_prompts`, the same noise and times at every call."""
    videos, prompts = take(batch, "gen_videos", "gen_prompts")
    return train_video_diffusion_step(model, videos, prompts, generator=_eval_generator(videos))


@torch.no_grad()
def eval_voice_asr_step(model: XoronMultimodalModel, batch: Mapping[str, Any]) -> Tensor:
    """The loss of `transcripts` after `audio`."""
    return train_voice_asr_step(model, *take(batch, "audio", "transcripts"))


@torch.no_grad()
def eval_voice_tts_step(model: XoronMultimodalModel, batch: Mapping[str, Any]) -> Tensor:
    """The loss of `text` spoken as in `target_audio`, in the voice of `speaker_ref` where there is one, the same
    segments at every call."""
    text, audio = take(batch, "text", "target_audio")
    return train_voice_tts_step(model, text, audio, batch.get("speaker_ref"), generator=_eval_generator(audio))


@contextmanager
def blaming(key: str) -> Iterator[None]:
    """A ValueError inside is about what stands under this key, and becomes a BatchError that says so."""
    try:
        yield
    except ValueError as error:
        raise BatchError(key, str(error)) from error


def take(batch: Mapping[str, Any], *keys: str) -> tuple[Any, ...]:
    """The values of these keys.

    Raises: BatchError naming one that is missing.
    """
    for key in keys:
        if batch.get(key) is None:
            raise BatchError(key, f"missing in a batch with {', '.join(sorted(batch)) or 'nothing'}; add it")
    return tuple(batch[key] for key in keys)


def tokenizer_of(model: XoronMultimodalModel) -> Tokenizer:
    """The tokenizer that whoever built the model gave it.

    Raises: BatchError where there is none.
    """
    if model.tokenizer is None:
        raise BatchError("tokenizer", "the model has none to read texts with; set model.tokenizer")
    tokenizer: Tokenizer = model.tokenizer
    return tokenizer


def _times_and_noise(latents: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Times [B] in [0, 1), and noise of the latents' shape."""
    times_B = torch.rand(len(latents), generator=generator, device=latents.device)
    return times_B, torch.randn(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)


def _read_prompts(model: XoronMultimodalModel, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """States [B, L, D] of prompts, and where there are some (True)."""
    tokenizer_of(model)
    ids_BL, mask_BL = model.tokenize_prompts(prompts)
    return model.encode_text(ids_BL, mask_BL), mask_BL


def _voices(model: XoronMultimodalModel, speaker_ref: Tensor | None, num_texts: int) -> Tensor | None:
    """Speaker embeddings of reference sounds."""
    if speaker_ref is None:
        return None
    _check_shape("speaker_ref", speaker_ref, "[B, T]", 2)
    if len(speaker_ref) != num_texts:
        raise BatchError("speaker_ref", f"{len(speaker_ref)} sounds for {num_texts} texts; give one each")
    mel_BFM = model.compute_mel_spectrogram(speaker_ref)
    voices_BS: Tensor = model.speaker_encoder(mel_BFM, torch.ones_like(mel_BFM[..., 0], dtype=torch.bool))
    return voices_BS


def _check_shape(key: str, tensor: Tensor, form: str, num_dims: int, channels_at: int | None = None) -> None:
    is_right = tensor.ndim == num_dims and (channels_at is None or tensor.shape[channels_at] == 3)
    if not is_right or not tensor.numel():
        raise BatchError(key, f"expected {form}, got {tuple(tensor.shape)}")


def _check_number(key: str, texts: Sequence[str], count: int, of_what: str) -> None:
    if isinstance(texts, str):
        raise BatchError(key, f"expected a list of {count} texts, one for each of the {of_what}, got {texts!r:.80}")
    if len(texts) != count:
        raise BatchError(key, f"{len(texts)} texts for {count} {of_what}; give one each")


def _eval_generator(like: Tensor) -> torch.Generator:
    return torch.Generator(like.device).manual_seed(EVAL_SEED)

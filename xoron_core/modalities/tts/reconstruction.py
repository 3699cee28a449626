"""How far what is spoken is from the recording: its spectrogram, and its waveform on a segment.

Shapes: B recordings, T samples, F frames, M mel bins, S frames of a segment.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from xoron_core.model.speech.audio_decoder import AudioDecoderOutput
from xoron_core.model.speech.mel import HOP
from xoron_core.model.speech.waveform_decoder import WaveformDecoder

SEGMENT_FRAMES = 32
"""Of a recording's frames the waveform decoder learns from so many at a step: 8,192 samples."""
FRAMES_MULTIPLE = 16
"""Spectrograms of a batch are padded to a multiple of this: few shapes, little padding."""


class Segments(NamedTuple):
    """A segment of each recording, [B, 8192] each; zero beyond the recording's end."""

    predicted_BT: Tensor
    """As the waveform decoder makes it of predicted frames."""
    target_BT: Tensor
    """As it is."""
    heard_BT: Tensor
    """True within the recording."""

    def errors(self) -> Tensor:
        """Mean absolute error of each, [B]."""
        return masked_mean((self.predicted_BT - self.target_BT).abs(), self.heard_BT)


def padded_frames(num_frames: int) -> int:
    """Frames of a batch whose longest recording has `num_frames`: a segment at least."""
    return -(-max(SEGMENT_FRAMES, num_frames) // FRAMES_MULTIPLE) * FRAMES_MULTIPLE


def mel_errors(output: AudioDecoderOutput, mel_BFM: Tensor) -> Tensor:
    """Mean absolute error of each spectrogram, over its recording's own frames, [B]."""
    return masked_mean((output.mel_BFM.float() - mel_BFM).abs().mean(-1), output.frame_mask_BF)


def waveform_segments(
    decoder: WaveformDecoder, mel_BFM: Tensor, waveforms_BT: Tensor, num_samples_B: Tensor, segment_start_B: Tensor
) -> Segments:
    """The segments that begin at these frames; waveforms are 256 samples a frame, and have frames for a segment."""
    frames_BS = segment_start_B.unsqueeze(1) + torch.arange(SEGMENT_FRAMES, device=mel_BFM.device)
    segment_BSM = mel_BFM.gather(1, frames_BS.unsqueeze(-1).expand(-1, -1, mel_BFM.shape[-1]))
    samples_BT = (segment_start_B * HOP).unsqueeze(1)
    samples_BT = samples_BT + torch.arange(SEGMENT_FRAMES * HOP, device=mel_BFM.device)
    heard_BT = samples_BT < num_samples_B.unsqueeze(1)
    predicted_BT = decoder(segment_BSM.transpose(1, 2)).float() * heard_BT
    return Segments(predicted_BT, waveforms_BT.gather(1, samples_BT), heard_BT)


def masked_mean(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Each row's mean over what the mask holds, [B]."""
    return (x_BT * mask_BT).sum(1) / mask_BT.sum(1)

"""From a waveform to features: convolutions (or mels), then Conformer blocks.

Shapes: B batch, T samples, F frames, K mel bins, D width, M groups of S neighbouring frames.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.audio_encoder import SAMPLES_PER_FRAME, AudioEncoderConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.speech.conformer import ConformerBlock, sequence_rotary
from xoron_core.model.speech.mel import HOP, N_MELS, compute_mel_spectrogram
from xoron_core.model.speech.waveform_encoder import WaveformEncoder, valid_mask

INITIAL_SHARE = 0.3
"""Of the usual size of initial weights."""


def samples_per_frame(config: AudioEncoderConfig) -> int:
    """Samples that become one frame of the features."""
    return SAMPLES_PER_FRAME if config.use_raw_waveform else HOP


class AudioFeatures(NamedTuple):
    """What the encoder hears; features where the mask is False mean nothing."""

    features_BFD: Tensor
    mask_BF: Tensor
    """True for frames that are there."""

    def averaged(self, count: int) -> "AudioFeatures":
        """Means of `count` neighbouring frames (of fewer at a sample's end)."""
        stacked_BMSD, mask_BMS = self.stacked(count)
        counts_BM = mask_BMS.sum(dim=2)
        return AudioFeatures(stacked_BMSD.sum(dim=2) / counts_BM.clamp(min=1).unsqueeze(-1), counts_BM > 0)

    def stacked(self, count: int) -> tuple[Tensor, Tensor]:
        """Groups of `count` neighbouring frames, [B, ceil(F / count), count, D] and the same of the mask; zeros where
        there is no frame."""
        batch, frames, width = self.features_BFD.shape
        short = -frames % count
        heard_BFD = F.pad(self.features_BFD * self.mask_BF.unsqueeze(-1), (0, 0, 0, short))
        mask_BF = F.pad(self.mask_BF, (0, short))
        return heard_BFD.view(batch, -1, count, width), mask_BF.view(batch, -1, count)


class AudioEncoder(Checkpointed, Initialised):
    """Waveforms of 16 kHz → features, 250 frames a second from the samples, 62.5 from mels."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.waveform_encoder: WaveformEncoder | None = None
        channels = N_MELS
        if config.use_raw_waveform:
            self.waveform_encoder = WaveformEncoder(config.conv_channels)
            channels = config.conv_channels[-1]
        self.num_merged = HOP // samples_per_frame(config) if config.blocks_at_mel_rate else 1
        self.in_proj = nn.Linear(channels, config.hidden_size)
        self.in_norm = RMSNorm(config.hidden_size, eps=1e-6)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))
        self.detail_proj = nn.Linear(channels, config.hidden_size) if self.num_merged > 1 else None

    def init_own(self, generator: torch.Generator) -> None:
        """Start all matrices and filters small: a norm follows nearly all and takes their size away, and Adam's
        steps, which do not depend on it, turn small ones sooner."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.mul_(INITIAL_SHARE)

    def forward(self, audio: Tensor, lengths_B: Tensor | None = None) -> AudioFeatures:
        """Features of as many frames as a length begins; `lengths_B` counts samples, 1 at least (None: all there are).

        `audio`: waveforms [B, T], or for an encoder that reads mels their spectrograms [B, K, F], as
        `compute_mel_spectrogram` makes them, transposed.

        Raises: ValueError for spectrograms where samples are read, and for others than that.
        """
        if audio.ndim == 3:
            frames_BFC, num_frames_B = self._given_mels(audio, lengths_B)
        else:
            if lengths_B is None:
                lengths_B = torch.full((len(audio),), audio.shape[1], device=audio.device)
            frames_BFC, num_frames_B = self._frames(audio, lengths_B)
        num_frames = frames_BFC.shape[1]
        heard = AudioFeatures(frames_BFC, valid_mask(num_frames_B, num_frames))
        merged = heard.averaged(self.num_merged)
        x_BMD = self.in_norm(self.in_proj(merged.features_BFD))
        rotary = sequence_rotary(x_BMD.shape[1], self.config.hidden_size // self.config.num_heads, x_BMD.device)
        for block in self.blocks:
            x_BMD = self.run_layer(block, x_BMD, rotary, merged.mask_BF)
        if self.detail_proj is None:
            return AudioFeatures(x_BMD, heard.mask_BF)
        repeated_BFD = x_BMD.repeat_interleave(self.num_merged, dim=1)[:, :num_frames]
        return AudioFeatures(repeated_BFD + self.detail_proj(frames_BFC), heard.mask_BF)

    def averaged_to_mel_rate(self, features: AudioFeatures) -> AudioFeatures:
        """Features at the rate of mels, 62.5 frames a second."""
        return features.averaged(HOP // samples_per_frame(self.config))

    def _given_mels(self, mel_BKF: Tensor, lengths_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `_frames`, of spectrograms."""
        if self.waveform_encoder is not None or mel_BKF.shape[1] != N_MELS:
            reads = "waveforms [B, T]" if self.waveform_encoder is not None else f"spectrograms [B, {N_MELS}, F]"
            raise ValueError(
                f"audio of shape {tuple(mel_BKF.shape)}, but the encoder reads {reads}; model.audio_encoder."
                "use_raw_waveform decides"
            )
        num_frames = mel_BKF.shape[2]
        if lengths_B is None:
            lengths_B = torch.full((len(mel_BKF),), num_frames * HOP, device=mel_BKF.device)
        return mel_BKF.transpose(1, 2), -(-lengths_B // HOP)

    def _frames(self, waveform_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the blocks work on, and how many frames each row has."""
        if self.waveform_encoder is not None:
            frames_BFC, num_frames_B = self.waveform_encoder(waveform_BT, lengths_B)
            return frames_BFC, num_frames_B
        heard_BT = waveform_BT * valid_mask(lengths_B, waveform_BT.shape[1])
        return compute_mel_spectrogram(heard_BT), -(-lengths_B // HOP)

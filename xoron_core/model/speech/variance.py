"""Pitch and energy of tokens, and predictors of them and of durations (FastSpeech 2, arXiv 2006.04558).

Shapes: B samples, N tokens, F frames, D width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.audio_decoder import AudioDecoderConfig
from xoron_core.model.speech.fft import MaskedConv

KERNEL_SIZE = 3


class Prosody(NamedTuple):
    """How tokens (or frames) are spoken, [B, N] each."""

    pitch_BN: Tensor
    """Normalised log F0, the mean over voiced frames; means nothing where none is voiced."""
    voicing_BN: Tensor
    """Share of voiced frames (of a prediction: before the sigmoid)."""
    energy_BN: Tensor
    """Mean of the normalised log-mel."""

    def of_tokens(self, path_BF: Tensor, frame_mask_BF: Tensor, num_tokens: int) -> "Prosody":
        """Means of frames over the tokens that a path gives them to."""

        def total(x_BF: Tensor) -> Tensor:
            zeros_BN = x_BF.new_zeros((len(x_BF), num_tokens))
            return zeros_BN.scatter_add(1, path_BF, x_BF * frame_mask_BF)

        frames_BN = total(torch.ones_like(self.energy_BN)).clamp(min=1)
        voiced_BN = total(self.voicing_BN)
        pitch_BN = total(self.pitch_BN * self.voicing_BN) / voiced_BN.clamp(min=1)
        return Prosody(pitch_BN, voiced_BN / frames_BN, total(self.energy_BN) / frames_BN)


class Predictor(nn.Module):
    """Two convolutions, each with a norm, and a linear layer: some values for each token."""

    def __init__(self, hidden_size: int, size: int, num_values: int) -> None:
        super().__init__()
        self.conv_1 = MaskedConv(hidden_size, size, KERNEL_SIZE)
        self.norm_1 = nn.LayerNorm(size)
        self.conv_2 = MaskedConv(size, size, KERNEL_SIZE)
        self.norm_2 = nn.LayerNorm(size)
        self.out_proj = nn.Linear(size, num_values)

    def forward(self, x_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """[B, N, D] → [B, N, values]."""
        x_BND = self.norm_1(F.relu(self.conv_1(x_BND, mask_BN)))
        x_BND = self.norm_2(F.relu(self.conv_2(x_BND, mask_BN)))
        return self.out_proj(x_BND)  # type: ignore[no-any-return]


class VarianceAdaptor(nn.Module):
    """Predicts duration, pitch and energy, and tells the states of pitch and energy: the true ones where they are
    known, else its own."""

    def __init__(self, config: AudioDecoderConfig) -> None:
        super().__init__()
        hidden, size = config.hidden_size, config.predictor_size
        self.duration = Predictor(hidden, size, 1)
        self.pitch = Predictor(hidden, size, 2)
        self.energy = Predictor(hidden, size, 1)
        self.pitch_proj = nn.Linear(2, hidden)
        self.energy_proj = nn.Linear(1, hidden)

    def log_durations(self, x_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """Predicted logs of durations in frames, [B, N]; the states learn nothing from it."""
        return self.duration(x_BND.detach(), mask_BN).squeeze(-1)  # type: ignore[no-any-return]

    def forward(self, x_BND: Tensor, mask_BN: Tensor, spoken: Prosody | None) -> tuple[Tensor, Prosody]:
        """States that know pitch and energy, and what was predicted of both."""
        pitch_BN, voicing_BN = self.pitch(x_BND, mask_BN).unbind(-1)
        told_voicing_BN = voicing_BN.sigmoid() if spoken is None else spoken.voicing_BN
        told_pitch_BN = (pitch_BN if spoken is None else spoken.pitch_BN) * told_voicing_BN
        x_BND = x_BND + self.pitch_proj(torch.stack((told_pitch_BN, told_voicing_BN), dim=-1))
        energy_BN = self.energy(x_BND, mask_BN).squeeze(-1)
        told_energy_BN = energy_BN if spoken is None else spoken.energy_BN
        return x_BND + self.energy_proj(told_energy_BN.unsqueeze(-1)), Prosody(pitch_BN, voicing_BN, energy_BN)

"""From samples to frames: six convolutions that halve the rate each, ×64 in all.

Shapes: B batch, T samples or frames, C channels, G groups of channels, K values of a group, N taps. What lies beyond a
waveform is zero before every convolution and takes part in no statistic, so padding changes nothing.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.audio_encoder import CHANNELS_PER_GROUP, SAMPLE_RATE, SAMPLES_PER_FRAME
from xoron_core.model.initialise import Initialised

FIRST_TAPS = 32
"""Taps of the first convolution, 2 ms: long enough to tell bands apart."""
TAPS = 6
"""Taps of the others."""
OVERHANG_FRAMES = 3
"""Frames beyond a waveform's own that see a sample of it still: they are computed, counted in statistics, cut off."""
LOWEST_HZ, HIGHEST_HZ = 100.0, 7_000.0


def valid_mask(lengths_B: Tensor, num_frames: int) -> Tensor:
    """True for the frames that are there, [B, num_frames]."""
    return torch.arange(num_frames, device=lengths_B.device) < lengths_B.unsqueeze(1)


class ValidGroupNorm(nn.GroupNorm):
    """GroupNorm (arXiv 1803.08494) whose mean and variance are those of the frames that are there; others are zero."""

    def forward(self, x_BCT: Tensor, lengths_B: Tensor) -> Tensor:  # type: ignore[override]
        """[B, C, T] → the same, in its dtype; statistics in fp32."""
        batch, channels, _ = x_BCT.shape
        x_BGK = x_BCT.float().reshape(batch, self.num_groups, -1)
        counts_B1 = lengths_B.unsqueeze(1) * (channels // self.num_groups)
        mean_BG = x_BGK.sum(dim=2) / counts_B1
        squares_BG = torch.linalg.vector_norm(x_BGK, dim=2).square() / counts_B1
        variance_BG = (squares_BG - mean_BG.square()).clamp(min=0)
        scale_BG = (variance_BG + self.eps).rsqrt()
        scale_BC = scale_BG.repeat_interleave(channels // self.num_groups, dim=1) * self.weight
        mean_BC = mean_BG.repeat_interleave(channels // self.num_groups, dim=1)
        shift_BC = self.bias - mean_BC * scale_BC
        return torch.addcmul(shift_BC.unsqueeze(2), x_BCT, scale_BC.unsqueeze(2)).to(x_BCT.dtype)


class HalvingConvolution(nn.Module):
    """Convolution of stride 2, GroupNorm, SiLU."""

    def __init__(self, in_channels: int, out_channels: int, taps: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, taps, stride=2, padding=taps // 2 - 1, bias=False)
        self.norm = ValidGroupNorm(out_channels // CHANNELS_PER_GROUP, out_channels)

    def reach(self, lengths_B: Tensor) -> Tensor:
        """Frames of the result that see one at least of so many frames: the padding on the left shifts them."""
        padding = self.convolution.kernel_size[0] // 2 - 1
        return (lengths_B - 1 + padding) // 2 + 1

    def forward(self, x_BCT: Tensor, lengths_B: Tensor) -> Tensor:
        """[B, C, T] → [B, C', T / 2]; `lengths_B` are those of the result, frames that see anything but zeros."""
        y_BCT = self.convolution(x_BCT)
        y_BCT = F.silu(self.norm(y_BCT, lengths_B))
        return y_BCT * valid_mask(lengths_B, y_BCT.shape[2]).unsqueeze(1)


def mel_frequencies(count: int, lowest_hz: float, highest_hz: float) -> Tensor:
    """Frequencies in Hz, spaced evenly on the mel scale (2595 · log10(1 + f / 700)), [count]."""
    low, high = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (lowest_hz, highest_hz))
    return 700.0 * (10.0 ** (torch.linspace(low, high, count) / 2595.0) - 1.0)


class WaveformEncoder(Initialised):
    """Waveforms → 250 frames a second, [B, ceil(T / 64), C]."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (1, *channels[:-1])
        self.layers = nn.ModuleList(
            HalvingConvolution(before, after, FIRST_TAPS if index == 0 else TAPS)
            for index, (before, after) in enumerate(zip(inputs, channels, strict=True))
        )

    def init_own(self, generator: torch.Generator) -> None:
        """The first convolution starts as a bank of band-pass filters (Gabor functions: a wave under a bell) whose
        frequencies are spaced as on the mel scale, every other one a quarter of a wave later (arXiv 2101.08596)."""
        first = self.layers[0]
        assert isinstance(first, HalvingConvolution)
        weight_C1K = first.convolution.weight
        seconds_K = (torch.arange(FIRST_TAPS) - (FIRST_TAPS - 1) / 2) / SAMPLE_RATE
        frequencies_C1 = mel_frequencies(len(weight_C1K), LOWEST_HZ, HIGHEST_HZ).unsqueeze(1)
        phases_C1 = (torch.arange(len(weight_C1K)) % 2 * (math.pi / 2)).unsqueeze(1)
        waves_CK = torch.cos(2 * math.pi * frequencies_C1 * seconds_K + phases_C1) * torch.hann_window(FIRST_TAPS)
        weight_C1K.copy_(F.normalize(waves_CK, dim=1).unsqueeze(1))

    def forward(self, waveform_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [B, F, C] and how many of them are there, [B]. `lengths_B` counts samples."""
        samples = waveform_BT.shape[1]
        num_frames, num_frames_B = -(-samples // SAMPLES_PER_FRAME), -(-lengths_B // SAMPLES_PER_FRAME)
        padding = (num_frames + OVERHANG_FRAMES) * SAMPLES_PER_FRAME - samples
        x_BCT = F.pad(waveform_BT * valid_mask(lengths_B, samples), (0, padding)).unsqueeze(1)
        for layer in self.layers:
            assert isinstance(layer, HalvingConvolution)
            lengths_B = layer.reach(lengths_B)
            x_BCT = layer(x_BCT, lengths_B)
        return x_BCT[:, :, :num_frames].transpose(1, 2), num_frames_B

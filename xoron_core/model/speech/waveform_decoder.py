"""Mel spectrograms to waveforms: upsampling with periodic activations (BigVGAN, arXiv 2206.04658).

Shapes: B samples, M mel bins, F frames, C channels, T steps at the rate of a layer.
"""

import torch
from torch import Tensor, nn

from xoron_core.contract.config.waveform_decoder import WaveformDecoderConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.speech.mel import N_MELS

KERNEL_SIZE = 7
"""Of the first and the last convolution."""


class Snake(Initialised):
    """x + sin²(αx) / β with α and β learned on a log scale, one of each a channel: periodic, and never far from x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_alpha_C1 = nn.Parameter(torch.empty(channels, 1))
        self.log_beta_C1 = nn.Parameter(torch.empty(channels, 1))

    def init_own(self, generator: torch.Generator) -> None:
        """α = β = 1."""
        self.log_alpha_C1.zero_()
        self.log_beta_C1.zero_()

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Same shape out as in."""
        return x_BCT + (-self.log_beta_C1).exp() * (self.log_alpha_C1.exp() * x_BCT).sin().square()


class PeriodicBlock(Initialised):
    """Dilated convolutions, each after an activation and followed by a plain one, each pair added to its input."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        half = kernel_size // 2
        self.dilated_snakes = nn.ModuleList(Snake(channels) for _ in dilations)
        self.dilated_convs = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=half * dilation, dilation=dilation)
            for dilation in dilations
        )
        self.plain_snakes = nn.ModuleList(Snake(channels) for _ in dilations)
        self.plain_convs = nn.ModuleList(nn.Conv1d(channels, channels, kernel_size, padding=half) for _ in dilations)

    def init_own(self, generator: torch.Generator) -> None:
        """What is added starts small."""
        for conv in self.plain_convs:
            assert isinstance(conv, nn.Conv1d)
            conv.weight.mul_(0.3)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Same shape out as in."""
        layers = zip(self.dilated_snakes, self.dilated_convs, self.plain_snakes, self.plain_convs, strict=True)
        for dilated_snake, dilated_conv, plain_snake, plain_conv in layers:
            x_BCT = x_BCT + plain_conv(plain_snake(dilated_conv(dilated_snake(x_BCT))))
        return x_BCT


class UpsamplingLayer(nn.Module):
    """More steps, half the channels, then the mean of blocks with different receptive fields."""

    def __init__(self, channels: int, rate: int, kernel_sizes: tuple[int, ...], dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.snake = Snake(channels)
        # a kernel of twice the stride covers every step alike
        self.upsample = nn.ConvTranspose1d(channels, channels // 2, 2 * rate, stride=rate, padding=rate // 2)
        self.blocks = nn.ModuleList(PeriodicBlock(channels // 2, size, dilations) for size in kernel_sizes)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """[B, C, T] → [B, C / 2, rate · T]."""
        x_BCT = self.upsample(self.snake(x_BCT))
        return torch.stack([block(x_BCT) for block in self.blocks]).mean(0)


class WaveformDecoder(Checkpointed, Initialised):
    """80-bin log-mels at 62.5 frames a second → waveforms at 16 kHz, 256 samples a frame."""

    def __init__(self, config: WaveformDecoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.conv_in = nn.Conv1d(N_MELS, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.layers = nn.ModuleList(
            UpsamplingLayer(width // 2**index, rate, config.kernel_sizes, config.dilations)
            for index, rate in enumerate(config.upsample_rates)
        )
        last = width // 2 ** len(config.upsample_rates)
        self.snake_out = Snake(last)
        self.conv_out = nn.Conv1d(last, 1, KERNEL_SIZE, padding=KERNEL_SIZE // 2)

    def init_own(self, generator: torch.Generator) -> None:
        """The first waveform is quiet."""
        self.conv_out.weight.mul_(0.1)

    def forward(self, mel_BMF: Tensor) -> Tensor:
        """[B, M, F] → waveforms in [-1, 1], [B, 256 · F]."""
        x_BCT = self.conv_in(mel_BMF)
        for layer in self.layers:
            x_BCT = self.run_layer(layer, x_BCT)
        return self.conv_out(self.snake_out(x_BCT)).squeeze(1).tanh()  # type: ignore[no-any-return]

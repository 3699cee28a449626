"""A small KL autoencoder: pictures to latents of an eighth of the side, and back.

Shapes: B batch, C latent channels, H×W pixels (latents: H/8 × W/8). Pictures lie in [-1, 1].
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.model.initialise import Initialised

DOWNSAMPLING = 8


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes; the same keys stand in `config.json` beside the weights. Widths go from fine (1/2) to coarse (1/8)."""

    latent_channels: int = 4
    encoder_widths: tuple[int, int, int] = (32, 64, 96)
    decoder_widths: tuple[int, int, int] = (40, 64, 88)
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    groups: int = 8

    @classmethod
    def from_json(cls, values: dict[str, object]) -> "AutoencoderConfig":
        """From parsed JSON, where tuples are lists; unknown keys raise TypeError."""
        made = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**made)  # type: ignore[arg-type]


class Posterior(NamedTuple):
    """The latents' distribution, [B, C, H/8, W/8] each."""

    mean_BCHW: Tensor
    logvar_BCHW: Tensor

    def sample(self, noise_BCHW: Tensor) -> Tensor:
        """A draw, by noise that the caller brings."""
        return self.mean_BCHW + (0.5 * self.logvar_BCHW).exp() * noise_BCHW


class ResBlock(nn.Module):
    """Two convolutions, each after GroupNorm and SiLU, added to the input."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm_2 = nn.GroupNorm(groups, width)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return x + self.conv_2(F.silu(self.norm_2(self.conv_1(F.silu(self.norm_1(x))))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Pixels → mean and log variance, 2C channels. Pixels are folded 2×2 first: full-size maps are what costs."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.encoder_widths
        blocks = config.encoder_blocks
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, fine, 3, padding=1),
            *(ResBlock(fine, config.groups) for _ in range(blocks)),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1),
            *(ResBlock(middle, config.groups) for _ in range(blocks)),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            *(ResBlock(coarse, config.groups) for _ in range(blocks)),
            nn.GroupNorm(config.groups, coarse),
            nn.SiLU(),
            nn.Conv2d(coarse, 2 * config.latent_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 2C, H/8, W/8]."""
        return self.layers(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Latents → pixels; grows by nearest neighbours and a convolution, the last time by unfolding channels."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.decoder_widths
        blocks = config.decoder_blocks
        self.layers = nn.Sequential(
            nn.Conv2d(config.latent_channels, coarse, 3, padding=1),
            *(ResBlock(coarse, config.groups) for _ in range(blocks)),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Conv2d(coarse, middle, 3, padding=1),
            *(ResBlock(middle, config.groups) for _ in range(blocks)),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Conv2d(middle, fine, 3, padding=1),
            *(ResBlock(fine, config.groups) for _ in range(blocks)),
            nn.GroupNorm(config.groups, fine),
            nn.SiLU(),
            nn.Conv2d(fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, z: Tensor) -> Tensor:
        """[B, C, H/8, W/8] → [B, 3, H, W]."""
        return self.layers(z)  # type: ignore[no-any-return]


class Autoencoder(Initialised):
    """Encoder, decoder, and the statistics that make latents unit-variance a channel."""

    latent_mean_C: Tensor
    latent_std_C: Tensor

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        self.config = AutoencoderConfig() if config is None else config
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        self.register_buffer("latent_mean_C", torch.zeros(self.config.latent_channels))
        self.register_buffer("latent_std_C", torch.ones(self.config.latent_channels))

    def init_own(self, generator: torch.Generator) -> None:
        """Residual branches start at zero; statistics start at mean 0, deviation 1."""
        for module in self.modules():
            if isinstance(module, ResBlock):
                nn.init.zeros_(module.conv_2.weight)
        self.latent_mean_C.zero_()
        self.latent_std_C.fill_(1.0)

    def encode(self, images_B3HW: Tensor) -> Posterior:
        """The posterior of pictures in [-1, 1]. Raises ValueError for sides that are not multiples of 8."""
        height, width = images_B3HW.shape[-2:]
        if height % DOWNSAMPLING or width % DOWNSAMPLING:
            raise ValueError(f"pictures of {height}×{width}: sides must be multiples of {DOWNSAMPLING}; resize them")
        mean_BCHW, logvar_BCHW = self.encoder(images_B3HW).chunk(2, dim=1)
        return Posterior(mean_BCHW, logvar_BCHW.clamp(-20.0, 10.0))

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Pictures of unscaled latents, about [-1, 1], not clamped."""
        return self.decoder(latents_BCHW)  # type: ignore[no-any-return]

    def encode_scaled(self, images_B3HW: Tensor, noise_BCHW: Tensor | None = None) -> Tensor:
        """Latents of mean 0 and variance 1 a channel: a draw by the noise given, or the posterior's mean."""
        posterior = self.encode(images_B3HW)
        latents_BCHW = posterior.mean_BCHW if noise_BCHW is None else posterior.sample(noise_BCHW)
        return (latents_BCHW - self.latent_mean_C[:, None, None]) / self.latent_std_C[:, None, None]

    def decode_scaled(self, latents_BCHW: Tensor) -> Tensor:
        """Pictures of latents as `encode_scaled` and the generator make them."""
        return self.decode(latents_BCHW * self.latent_std_C[:, None, None] + self.latent_mean_C[:, None, None])

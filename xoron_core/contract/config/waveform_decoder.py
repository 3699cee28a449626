"""From a mel spectrogram to a waveform. Defaults are those of `base`."""

from math import prod
from typing import Final

from pydantic import Field, model_validator

from xoron_core.contract.config.section import Section

UPSAMPLING: Final = 256
"""Samples that a mel frame becomes."""


class WaveformDecoderConfig(Section):
    """Transposed convolutions, each followed by blocks with periodic activations (BigVGAN, arXiv 2206.04658)."""

    hidden_size: int = Field(512, ge=1)
    """Channels at the rate of the frames; every upsampling halves them."""
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    """Factors of the rate; their product is 256. Each is even."""
    kernel_sizes: tuple[int, ...] = (3, 7, 11)
    """Kernels of the residual blocks that run side by side, whose mean goes on (multi-receptive-field fusion)."""
    dilations: tuple[int, ...] = (1, 3, 5)
    """Dilations of the convolutions that follow one another in a residual block."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "WaveformDecoderConfig":
        if prod(self.upsample_rates) != UPSAMPLING or any(rate < 2 or rate % 2 for rate in self.upsample_rates):
            raise ValueError(f"upsample_rates {self.upsample_rates}: give even numbers whose product is {UPSAMPLING}")
        if self.hidden_size % 2 ** len(self.upsample_rates):
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be halved {len(self.upsample_rates)} times; "
                f"make it a multiple of {2 ** len(self.upsample_rates)}"
            )
        if not self.kernel_sizes or any(size < 1 or size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(f"kernel_sizes {self.kernel_sizes}: give odd numbers, one at least")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"dilations {self.dilations}: give numbers of 1 or more, one at least")
        return self

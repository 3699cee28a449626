"""The encoder of sound, and what brings its features into the language model. Defaults are those of `base`."""

from typing import Final

from pydantic import Field, model_validator

from xoron_core.contract.config.section import Section

SAMPLE_RATE: Final = 16_000
"""Samples a second that all sound is brought to."""
SAMPLES_PER_FRAME: Final = 64
"""Samples that become one frame of the waveform encoder: 250 frames a second."""
SAMPLES_PER_TOKEN: Final = 512
"""Samples that become one embedding in the language model: 31.25 a second, with either front end."""
NUM_STRIDED_CONVOLUTIONS: Final = 6
"""Each halves the rate."""
CHANNELS_PER_GROUP: Final = 8
"""Channels that are normalised together."""


class AudioProjectorConfig(Section):
    """Neighbouring frames, side by side, through a small network into the language model's width."""

    hidden_size: int = Field(2048, ge=8)
    """Hidden width of the network."""


class AudioEncoderConfig(Section):
    """Strided convolutions on the waveform (or mels), then Conformer blocks (arXiv 2005.08100)."""

    use_raw_waveform: bool = True
    """Learned convolutions on the samples (250 frames a second); false: 80-bin log-mels (62.5 a second)."""
    conv_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 512)
    """Channels of the six convolutions of stride 2."""
    hidden_size: int = Field(512, ge=8)
    """Width of the Conformer blocks and of the features."""
    num_layers: int = Field(6, ge=1)
    """Conformer blocks."""
    num_heads: int = Field(8, ge=1)
    """Attention heads."""
    kv_rank: int = Field(256, ge=1)
    """Width of the latent that keys and values are made from."""
    conv_kernel_size: int = Field(31, ge=1)
    """Frames that the depthwise convolution of a block sees."""
    feed_forward_size: int = Field(2048, ge=8)
    """Hidden width of each of a block's two half feed-forwards."""
    blocks_at_mel_rate: bool = False
    """The blocks see 62.5 frames a second also where the features have 250: means of four neighbours, for a quarter of
    the cost or less. Each feature is then the block's output plus a projection of its own frame."""
    projector: AudioProjectorConfig = AudioProjectorConfig()
    """What brings the features into the language model."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "AudioEncoderConfig":
        if len(self.conv_channels) != NUM_STRIDED_CONVOLUTIONS:
            raise ValueError(
                f"conv_channels {self.conv_channels} has {len(self.conv_channels)} entries; "
                f"give {NUM_STRIDED_CONVOLUTIONS}, one for each halving of the rate"
            )
        uneven = [channels for channels in self.conv_channels if channels < 1 or channels % CHANNELS_PER_GROUP]
        if uneven:
            raise ValueError(f"conv_channels: {uneven[0]} is not a multiple of {CHANNELS_PER_GROUP}; change it")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 × num_heads {self.num_heads} "
                "(rotary positions turn pairs); change one of them"
            )
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size {self.conv_kernel_size} is even; make it odd, so that it has a middle")
        return self

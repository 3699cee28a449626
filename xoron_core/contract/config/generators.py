"""The diffusion transformers that make pictures and clips. Defaults are those of the `base` preset."""

from pydantic import Field, model_validator

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.section import Section


class GeneratorConfig(Section):
    """A diffusion transformer in the latent space of the autoencoder."""

    hidden_size: int = Field(768, ge=8)
    """Width of the residual stream."""
    num_layers: int = Field(8, ge=1)
    """Blocks: self-attention with the prompt beside (clips: within a frame, then over time), cross-attention to the
    prompt, experts."""
    num_heads: int = Field(12, ge=1)
    """Attention heads."""
    patch_size: int = Field(2, ge=1)
    """Side of a latent patch (clips: of one frame) that becomes one token."""
    moe: MoeConfig = MoeConfig(num_experts=4, top_k=2, num_shared_experts=1, expert_size=1536)
    """Experts of every block; for clips their router also sees the past of a token's place."""


class ImageGeneratorConfig(GeneratorConfig):
    """The diffusion transformer that makes pictures in the latent space of the autoencoder."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "ImageGeneratorConfig":
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of 4 × num_heads {self.num_heads} "
                "(two rotary axes share a head); change one of them"
            )
        return self


class VideoGeneratorConfig(GeneratorConfig):
    """The diffusion transformer that makes clips, frame by frame in the latent space of the autoencoder."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "VideoGeneratorConfig":
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 × num_heads {self.num_heads} "
                "(rotary positions turn pairs); change one of them"
            )
        if self.hidden_size < 6 * self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is less than 6 × num_heads {self.num_heads} "
                "(three rotary axes share a head); change one of them"
            )
        return self

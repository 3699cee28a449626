"""The diffusion transformer that makes clips. Defaults are those of the `base` preset."""

from pydantic import Field, model_validator

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.section import Section


class VideoGeneratorConfig(Section):
    """The diffusion transformer that makes clips, frame by frame in the latent space of the autoencoder."""

    hidden_size: int = Field(768, ge=8)
    """Width of the residual stream."""
    num_layers: int = Field(8, ge=1)
    """Blocks: attention within a frame, attention over time, cross-attention to the prompt, experts."""
    num_heads: int = Field(12, ge=1)
    """Attention heads."""
    patch_size: int = Field(2, ge=1)
    """Side of a latent patch of one frame that becomes one token."""
    moe: MoeConfig = MoeConfig(num_experts=4, top_k=2, num_shared_experts=1, expert_size=1536)
    """Experts of every block; their router sees the past of a token's place."""

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

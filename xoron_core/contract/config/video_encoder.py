"""Seeing clips: what follows the image backbone."""

from pydantic import Field

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.section import Section


class VideoEncoderConfig(Section):
    """Layers over the patches of all frames, as wide as the image backbone."""

    num_layers: int = Field(4, ge=1)
    """Layers: attention within a frame, attention to earlier frames, experts."""
    num_heads: int = Field(16, ge=1)
    """Attention heads."""
    moe: MoeConfig = MoeConfig(num_experts=4, top_k=2, num_shared_experts=1, expert_size=1536)
    """Experts of every layer."""

    def check(self, hidden_size: int) -> None:
        """See that heads fit the backbone's width.

        Raises: ValueError naming both.
        """
        if hidden_size % (2 * self.num_heads) or hidden_size < 6 * self.num_heads:
            raise ValueError(
                f"model.vision_encoder.hidden_size {hidden_size} is not an even multiple, of 6 at least, of "
                f"model.video_encoder.num_heads {self.num_heads} (three rotary axes share a head); change one of them"
            )

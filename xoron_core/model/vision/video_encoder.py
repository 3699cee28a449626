"""Clips: factorised attention over the patches of all frames, and experts that know what went before.

Shapes: B clips, T frames, F = B·T frames of all clips, N patches of a frame, D width.
"""

import torch
from torch import Tensor, nn

from xoron_core.contract.config.video_encoder import VideoEncoderConfig
from xoron_core.contract.config.vision import Grid
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.dit import StreamProjection, attend_to
from xoron_core.model.layers.moe import MoE, RouterStats
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, rotate
from xoron_core.model.layers.space_time import CausalTimeAttention, SpaceTimeRotary, space_time_rotary, with_past

EPS = 1e-6


class FrameAttention(nn.Module):
    """Each patch looks at all patches of its frame."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.projection = StreamProjection(hidden_size, num_heads)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_FND: Tensor, rotary: Rotary) -> Tensor:
        """[F, N, D] → the same; `rotary` has a row for each frame."""
        k_FNHW, v_FNHW = self.projection.keys_values(x_FND)
        q_FNHW = rotate(self.projection.queries(x_FND), rotary)
        return self.out_proj(attend_to(q_FNHW, rotate(k_FNHW, rotary), v_FNHW, None))  # type: ignore[no-any-return]


class VideoLayer(nn.Module):
    """Attention within a frame, then of each place over time (arXiv 2103.15691, model 3; causal), then experts whose
    router sees the past of a patch's place; each normalised before and added after."""

    def __init__(self, hidden_size: int, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.frame_norm = RMSNorm(hidden_size, eps=EPS)
        self.frame_attention = FrameAttention(hidden_size, config.num_heads)
        self.time_norm = RMSNorm(hidden_size, eps=EPS)
        self.time_attention = CausalTimeAttention(hidden_size, config.num_heads)
        self.experts_norm = RMSNorm(hidden_size, eps=EPS)
        self.experts = MoE(hidden_size, config.moe)

    def forward(self, x_FND: Tensor, num_frames: int, rotary: SpaceTimeRotary) -> tuple[Tensor, RouterStats]:
        """[F, N, D] → the same, and the router's statistics."""
        x_FND = x_FND + self.frame_attention(self.frame_norm(x_FND), rotary.space)
        x_FND = x_FND + self.time_attention(self.time_norm(x_FND), num_frames, rotary.time)
        normed_FND = self.experts_norm(x_FND)
        y_FND, stats = self.experts(normed_FND, router_input_BTD=with_past(normed_FND, num_frames))
        return x_FND + y_FND, stats


class VideoEncoder(Checkpointed, Initialised):
    """Patches of frames → tokens that know of motion. No token knows anything of later frames."""

    def __init__(self, config: VideoEncoderConfig, hidden_size: int, grid: Grid) -> None:
        """`hidden_size` and `grid` are those of the image backbone."""
        super().__init__()
        config.check(hidden_size)
        self.config = config
        self.grid = grid
        self.head_width = hidden_size // config.num_heads
        self.layers = nn.ModuleList(VideoLayer(hidden_size, config) for _ in range(config.num_layers))
        self.norm = RMSNorm(hidden_size, eps=EPS)

    def init_own(self, generator: torch.Generator) -> None:
        """Scale what writes into the residual stream by 1/√(branches), as GPT-2 does."""
        factor = (3 * self.config.num_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight", "experts.down_EFD")):
                parameter.mul_(factor)

    def forward(self, patches_FND: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """[F, N, D] → [B, T·N, D], frame after frame, and the experts' balance loss (a scalar, weighted, zero where the
        balance is loss-free). `num_frames` is T."""
        batch_size = len(patches_FND) // num_frames
        rotary = space_time_rotary(batch_size, num_frames, *self.grid, self.head_width, patches_FND.device)
        x_FND = patches_FND
        aux_loss = x_FND.new_zeros((), dtype=torch.float32)
        for layer in self.layers:
            assert isinstance(layer, VideoLayer)
            x_FND, stats = self.run_layer(layer, x_FND, num_frames, rotary)
            layer.experts.record(stats)
            aux_loss = aux_loss + stats.aux_loss
        return self.norm(x_FND).view(batch_size, -1, x_FND.shape[-1]), aux_loss

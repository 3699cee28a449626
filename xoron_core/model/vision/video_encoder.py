"""Clips: factorised attention over the patches of all frames, and experts that know what went before.

Shapes: B clips, T frames, N patches of a frame, S = T · N, D width, H heads, W width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.video_encoder import VideoEncoderConfig
from xoron_core.contract.config.vision import Grid
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.dit import StreamProjection
from xoron_core.model.layers.moe import MoE, RouterStats
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, grid_rotary_3d, rotate

EPS = 1e-6


class FactorisedAttention(nn.Module):
    """Attention of S = T · N tokens along one of the two axes: to all patches of the same frame, or to the same patch
    in this frame and those before (arXiv 2103.15691, model 3; causal in time)."""

    def __init__(self, hidden_size: int, num_heads: int, *, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.norm = RMSNorm(hidden_size, eps=EPS)
        self.projection = StreamProjection(hidden_size, num_heads)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_BSD: Tensor, rotary: Rotary, num_frames: int) -> Tensor:
        """[B, S, D] → the same."""
        normed_BSD = self.norm(x_BSD)
        k_BSHW, v_BSHW = self.projection.keys_values(normed_BSD)
        turned = (rotate(self.projection.queries(normed_BSD), rotary), rotate(k_BSHW, rotary), v_BSHW)
        q, k, v = (self._split(x_BSHW, num_frames) for x_BSHW in turned)
        out_BTNHW = self._join(F.scaled_dot_product_attention(q, k, v, is_causal=self.temporal))
        return x_BSD + self.out_proj(out_BTNHW.reshape(x_BSD.shape))  # type: ignore[no-any-return]

    def _split(self, x_BSHW: Tensor, num_frames: int) -> Tensor:
        """The axis that is attended along as the last but one, [B, T, H, N, W] or [B, N, H, T, W]."""
        x_BTNHW = x_BSHW.unflatten(1, (num_frames, -1))
        return x_BTNHW.permute(0, 2, 3, 1, 4) if self.temporal else x_BTNHW.transpose(2, 3)

    def _join(self, out: Tensor) -> Tensor:
        """The way back, to [B, T, N, H, W]."""
        return out.permute(0, 3, 1, 2, 4) if self.temporal else out.transpose(2, 3)


class VideoLayer(nn.Module):
    """Attention within a frame, then across frames, then experts, each normalised before and added after."""

    def __init__(self, hidden_size: int, config: VideoEncoderConfig) -> None:
        super().__init__()
        self.spatial = FactorisedAttention(hidden_size, config.num_heads, temporal=False)
        self.temporal = FactorisedAttention(hidden_size, config.num_heads, temporal=True)
        self.experts_norm = RMSNorm(hidden_size, eps=EPS)
        self.experts = MoE(hidden_size, config.moe)

    def forward(self, x_BSD: Tensor, rotary: Rotary, num_frames: int) -> tuple[Tensor, RouterStats]:
        """[B, S, D] → the same, and the router's statistics. The router sees each token and the mean of what has been
        at its place up to its frame."""
        x_BSD = self.temporal(self.spatial(x_BSD, rotary, num_frames), rotary, num_frames)
        normed_BSD = self.experts_norm(x_BSD)
        seen_BSD = normed_BSD + causal_mean(normed_BSD.unflatten(1, (num_frames, -1))).flatten(1, 2)
        y_BSD, stats = self.experts(normed_BSD, router_input_BTD=seen_BSD)
        return x_BSD + y_BSD, stats


def causal_mean(x_BTND: Tensor) -> Tensor:
    """The mean over this frame and those before, at each place."""
    counts_T = torch.arange(1, x_BTND.shape[1] + 1, device=x_BTND.device)
    return x_BTND.cumsum(dim=1) / counts_T.view(-1, 1, 1)


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

    def forward(self, patches_BTND: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, N, D] → [B, S, D], frame after frame, and the experts' balance loss (a scalar, weighted, zero where
        the balance is loss-free)."""
        num_frames = patches_BTND.shape[1]
        rotary = grid_rotary_3d(num_frames, *self.grid, self.head_width, patches_BTND.device)
        x_BSD = patches_BTND.flatten(1, 2)
        aux_loss = x_BSD.new_zeros((), dtype=torch.float32)
        for layer in self.layers:
            assert isinstance(layer, VideoLayer)
            x_BSD, stats = self.run_layer(layer, x_BSD, rotary, num_frames)
            layer.experts.record(stats)
            aux_loss = aux_loss + stats.aux_loss
        return self.norm(x_BSD), aux_loss

"""Conformer blocks (arXiv 2005.08100) with latent attention.

Shapes: B batch, T frames, D width, H heads, W width of a head, C compressed width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.audio_encoder import AudioEncoderConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, rotate


def sequence_rotary(num_frames: int, width: int, device: torch.device, theta: float = 10_000.0) -> Rotary:
    """Angles of frames in a row, [1, T, W / 2]."""
    frequencies = theta ** -(torch.arange(width // 2, dtype=torch.float32, device=device) * 2 / width)
    angles_1TR = (torch.arange(num_frames, device=device).unsqueeze(-1) * frequencies).unsqueeze(0)
    return Rotary(angles_1TR.cos(), angles_1TR.sin())


class HalfFeedForward(nn.Module):
    """Half of a feed-forward: two of them stand around attention and convolution."""

    def __init__(self, hidden_size: int, feed_forward_size: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, eps=1e-6)
        self.up_proj = nn.Linear(hidden_size, feed_forward_size)
        self.down_proj = nn.Linear(feed_forward_size, hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """What is to be added, [B, T, D]."""
        return 0.5 * self.down_proj(F.silu(self.up_proj(self.norm(x_BTD))))  # type: ignore[no-any-return]


class LatentSelfAttention(nn.Module):
    """Every frame looks at every other; keys and values come from one compressed latent a frame (arXiv 2405.04434),
    queries and keys are turned by their position (RoPE)."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.num_heads, self.head_width = config.num_heads, hidden // config.num_heads
        self.norm = RMSNorm(hidden, eps=1e-6)
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.kv_down_proj = nn.Linear(hidden, config.kv_rank, bias=False)
        self.kv_norm = RMSNorm(config.kv_rank, eps=1e-6)
        self.kv_up_proj = nn.Linear(config.kv_rank, 2 * hidden, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x_BTD: Tensor, rotary: Rotary, mask_BT: Tensor) -> Tensor:
        """What is to be added, [B, T, D]; `mask_BT` is True for frames that are there."""
        batch, frames, _ = x_BTD.shape
        normed_BTD = self.norm(x_BTD)
        shape = (batch, frames, self.num_heads, self.head_width)
        q_BTHW = rotate(self.q_proj(normed_BTD).view(shape), rotary)
        k_BTD, v_BTD = self.kv_up_proj(self.kv_norm(self.kv_down_proj(normed_BTD))).chunk(2, dim=-1)
        k_BTHW = rotate(k_BTD.reshape(shape), rotary)
        out_BHTW = F.scaled_dot_product_attention(
            q_BTHW.transpose(1, 2),
            k_BTHW.transpose(1, 2),
            v_BTD.reshape(shape).transpose(1, 2),
            mask_BT[:, None, None, :],
        )
        return self.o_proj(out_BHTW.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution over neighbouring frames, norm of each frame by itself (no batch statistics)."""

    def __init__(self, hidden_size: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, eps=1e-6)
        self.gate_proj = nn.Linear(hidden_size, 2 * hidden_size)
        self.depthwise = nn.Conv1d(
            hidden_size, hidden_size, kernel_size, padding=kernel_size // 2, groups=hidden_size, bias=False
        )
        self.inner_norm = RMSNorm(hidden_size, eps=1e-6)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """What is to be added, [B, T, D]."""
        gated_BTD = F.glu(self.gate_proj(self.norm(x_BTD)), dim=-1) * mask_BT.unsqueeze(-1)
        mixed_BTD = self.depthwise(gated_BTD.transpose(1, 2)).transpose(1, 2)
        return self.out_proj(F.silu(self.inner_norm(mixed_BTD)))  # type: ignore[no-any-return]


class ConformerBlock(Initialised):
    """Half feed-forward, attention, convolution, half feed-forward, norm."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.num_branches = 4 * config.num_layers
        self.first_half = HalfFeedForward(hidden, config.feed_forward_size)
        self.attention = LatentSelfAttention(config)
        self.convolution = ConvolutionModule(hidden, config.conv_kernel_size)
        self.second_half = HalfFeedForward(hidden, config.feed_forward_size)
        self.norm = RMSNorm(hidden, eps=1e-6)

    def init_own(self, generator: torch.Generator) -> None:
        """Scale what writes into the residual stream by 1/√(branches of all blocks)."""
        writers = (
            self.first_half.down_proj,
            self.attention.o_proj,
            self.convolution.out_proj,
            self.second_half.down_proj,
        )
        for writer in writers:
            writer.weight.mul_(self.num_branches**-0.5)

    def forward(self, x_BTD: Tensor, rotary: Rotary, mask_BT: Tensor) -> Tensor:
        """[B, T, D] → the same; frames that are not there come out as something finite that nobody reads."""
        x_BTD = x_BTD + self.first_half(x_BTD)
        x_BTD = x_BTD + self.attention(x_BTD, rotary, mask_BT)
        x_BTD = x_BTD + self.convolution(x_BTD, mask_BT)
        x_BTD = x_BTD + self.second_half(x_BTD)
        return self.norm(x_BTD)  # type: ignore[no-any-return]

"""A block of the video generator: attention within a frame, then of each place over time, then prompt and experts.

Shapes: B clips, T frames, F = B·T frames of all clips, N tokens of a frame, L prompt tokens, J = L + N, D width,
H heads, W width of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.layers.dit import CrossAttention, DualStreamAttention, Modulation, StreamProjection, attend_to
from xoron_core.model.layers.moe import MoE, RouterStats
from xoron_core.model.layers.norms import modulate
from xoron_core.model.layers.rope import Rotary, grid_rotary_3d, rotate


class SpaceTimeRotary(NamedTuple):
    """The same angles twice: of the frames' tokens, rows [F, N, R], and of the places over time, rows [B·N, T, R]."""

    space: Rotary
    time: Rotary


def space_time_rotary(
    batch_size: int, num_frames: int, height: int, width: int, head_width: int, device: torch.device
) -> SpaceTimeRotary:
    """3D-RoPE of a clip's patches, laid out for both kinds of attention."""
    rotary = grid_rotary_3d(num_frames, height, width, head_width, device)
    angles_TNR = [table_1TR.view(num_frames, height * width, -1) for table_1TR in rotary]
    return SpaceTimeRotary(
        Rotary(*(table_TNR.repeat(batch_size, 1, 1) for table_TNR in angles_TNR)),
        Rotary(*(table_TNR.transpose(0, 1).repeat(batch_size, 1, 1) for table_TNR in angles_TNR)),
    )


def over_time(x_FND: Tensor, num_frames: int) -> Tensor:
    """Frames of tokens → places over time: [B·T, N, D] → [B·N, T, D]."""
    _, tokens, width = x_FND.shape
    return x_FND.view(-1, num_frames, tokens, width).transpose(1, 2).reshape(-1, num_frames, width)


def within_frames(x_MTD: Tensor, num_tokens: int) -> Tensor:
    """The way back of `over_time`: [B·N, T, D] → [B·T, N, D]."""
    _, frames, width = x_MTD.shape
    return x_MTD.view(-1, num_tokens, frames, width).transpose(1, 2).reshape(-1, num_tokens, width)


def with_past(x_FND: Tensor, num_frames: int) -> Tensor:
    """Each token plus the mean of its place over the frames up to its own: what a temporal router sees."""
    x_BTND = x_FND.view(-1, num_frames, *x_FND.shape[1:])
    counts_T11 = torch.arange(1, num_frames + 1, device=x_FND.device).view(-1, 1, 1)
    return (x_BTND + x_BTND.cumsum(dim=1) / counts_T11).flatten(0, 1)


class CausalTimeAttention(nn.Module):
    """Each place of the picture looks at itself in this frame and in those before."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.projection = StreamProjection(hidden_size, num_heads)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_FND: Tensor, num_frames: int, rotary: Rotary) -> Tensor:
        """[F, N, D] → the same; `rotary` has a row for each place."""
        x_MTD = over_time(x_FND, num_frames)
        k_MTHW, v_MTHW = self.projection.keys_values(x_MTD)
        q_MTHW = rotate(self.projection.queries(x_MTD), rotary)
        out_MTD = self.out_proj(attend_to(q_MTHW, rotate(k_MTHW, rotary), v_MTHW, None, causal=True))
        return within_frames(out_MTD, x_FND.shape[1])


class SpaceTimeBlock(nn.Module):
    """Dual-stream attention within each frame → causal attention over time → cross-attention to the prompt → experts
    whose router sees the past of a token's place; each under AdaLN-zero.

    Every frame has a prompt stream of its own: one for all would carry later frames into earlier ones.
    """

    def __init__(self, hidden_size: int, num_heads: int, moe: MoeConfig, *, last: bool) -> None:
        super().__init__()
        self.joint_attention = DualStreamAttention(hidden_size, num_heads, moe, last=last)
        self.modulation = Modulation(hidden_size, 9)
        self.time_attention = CausalTimeAttention(hidden_size, num_heads)
        self.cross_attention = CrossAttention(hidden_size, num_heads)
        self.experts = MoE(hidden_size, moe)

    def forward(
        self,
        x_FND: Tensor,
        prompt_FLD: Tensor,
        states_BLD: Tensor,
        condition_FD: Tensor,
        seen_FJ: Tensor,
        rotary: SpaceTimeRotary,
    ) -> tuple[Tensor, Tensor, RouterStats]:
        """Both streams one block on. `states_BLD` is what cross-attention reads, the same in every block; `seen_FJ`
        is True for tokens that are there, prompt first."""
        batch_size, num_prompt = states_BLD.shape[:2]
        num_frames = len(x_FND) // batch_size
        x_FND, prompt_next_FLD = self.joint_attention(x_FND, prompt_FLD, condition_FD, seen_FJ, rotary.space)
        time_shift, time_scale, time_gate, shift, scale, gate, moe_shift, moe_scale, moe_gate = self.modulation(
            condition_FD
        )
        attended_FND = self.time_attention(modulate(x_FND, time_shift, time_scale), num_frames, rotary.time)
        x_FND = torch.addcmul(x_FND, time_gate.unsqueeze(1), attended_FND)
        # all frames of a clip read the same states: their tokens are one row of queries
        queries_BMD = modulate(x_FND, shift, scale).view(batch_size, -1, x_FND.shape[-1])
        seen_B11L = seen_FJ[::num_frames, None, None, :num_prompt]
        crossed_FND = self.cross_attention(queries_BMD, states_BLD, seen_B11L).view(x_FND.shape)
        x_FND = torch.addcmul(x_FND, gate.unsqueeze(1), crossed_FND)
        normed_FND = modulate(x_FND, moe_shift, moe_scale)
        y_FND, stats = self.experts(normed_FND, router_input_BTD=with_past(normed_FND, num_frames))
        return torch.addcmul(x_FND, moe_gate.unsqueeze(1), y_FND), prompt_next_FLD, stats

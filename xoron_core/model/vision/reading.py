"""Queries that read a memory of tokens.

Shapes: B batch, Q queries, S tokens of the memory, D width, H heads, W width of a head.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.model.layers.dit import StreamProjection
from xoron_core.model.layers.feed_forward import SwiGLU
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, rotate

EPS = 1e-6
QUERY_STD = 0.1
"""Of learned queries at first: small beside what they read, or the media would drown in what is the same for all."""


def attend_to_all(q_BQHW: Tensor, k_BSHW: Tensor, v_BSHW: Tensor) -> Tensor:
    """Attention in which every query sees every token, [B, Q, D]."""
    out_BHQW = F.scaled_dot_product_attention(q_BQHW.transpose(1, 2), k_BSHW.transpose(1, 2), v_BSHW.transpose(1, 2))
    return out_BHQW.transpose(1, 2).flatten(2)


def scale_branches(module: nn.Module, num_layers: int) -> None:
    """Scale what writes into the residual stream by 1/√(2 · layers), as GPT-2 does."""
    for name, parameter in module.named_parameters():
        if name.endswith(("out_proj.weight", "down_proj.weight")):
            parameter.mul_((2 * num_layers) ** -0.5)


class ReadingLayer(nn.Module):
    """Cross-attention to the memory, then a feed-forward, each normalised before and added after."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.query_norm = RMSNorm(hidden_size, eps=EPS)
        self.memory_norm = RMSNorm(hidden_size, eps=EPS)
        self.projection = StreamProjection(hidden_size, num_heads)
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_norm = RMSNorm(hidden_size, eps=EPS)
        self.feed_forward = SwiGLU(hidden_size, 2 * hidden_size)

    def forward(
        self, x_BQD: Tensor, memory_BSD: Tensor, rotary: Rotary | None = None, memory_rotary: Rotary | None = None
    ) -> Tensor:
        """[B, Q, D] → the same; where the tokens have places, both are turned by theirs."""
        q_BQHW = self.projection.queries(self.query_norm(x_BQD))
        k_BSHW, v_BSHW = self.projection.keys_values(self.memory_norm(memory_BSD))
        if rotary is not None and memory_rotary is not None:
            q_BQHW, k_BSHW = rotate(q_BQHW, rotary), rotate(k_BSHW, memory_rotary)
        x_BQD = x_BQD + self.out_proj(attend_to_all(q_BQHW, k_BSHW, v_BSHW))
        y_BQD: Tensor = x_BQD + self.feed_forward(self.feed_forward_norm(x_BQD))
        return y_BQD

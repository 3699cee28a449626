"""Two streams with weights of their own that attend to each other (arXiv 2403.03206, without modulation by time).

Shapes: B batch, Q tokens, N patches, J = Q + N, D width, H heads, W width of a head.
"""

import torch
from torch import Tensor, nn

from xoron_core.model.layers.dit import StreamProjection
from xoron_core.model.layers.feed_forward import SwiGLU
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, rotate
from xoron_core.model.vision.reading import EPS, attend_to_all


class Stream(nn.Module):
    """One stream's half of a layer. Without `updates` it gives keys and values only: nobody reads it again."""

    def __init__(self, hidden_size: int, num_heads: int, *, updates: bool) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, eps=EPS)
        self.projection = StreamProjection(hidden_size, num_heads, queries=updates)
        if updates:
            self.out_proj = nn.Linear(hidden_size, hidden_size)
            self.feed_forward_norm = RMSNorm(hidden_size, eps=EPS)
            self.feed_forward = SwiGLU(hidden_size, 2 * hidden_size)

    def keys_values(self, normed_BND: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """[B, N, D] → twice [B, N, H, W], keys turned by their places."""
        k_BNHW, v_BNHW = self.projection.keys_values(normed_BND)
        return rotate(k_BNHW, rotary), v_BNHW

    def update(self, x_BND: Tensor, attended_BND: Tensor) -> Tensor:
        """Add what attention brought, then the feed-forward."""
        x_BND = x_BND + self.out_proj(attended_BND)
        y_BND: Tensor = x_BND + self.feed_forward(self.feed_forward_norm(x_BND))
        return y_BND


class DualStreamLayer(nn.Module):
    """Tokens and patches, joint attention over both; the last layer updates the tokens only."""

    def __init__(self, hidden_size: int, num_heads: int, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.tokens = Stream(hidden_size, num_heads, updates=True)
        self.patches = Stream(hidden_size, num_heads, updates=not last)

    def forward(
        self, x_BQD: Tensor, patches_BND: Tensor, rotary: Rotary, patch_rotary: Rotary
    ) -> tuple[Tensor, Tensor]:
        """Both streams one layer on."""
        normed_BQD, normed_BND = self.tokens.norm(x_BQD), self.patches.norm(patches_BND)
        k_BQHW, v_BQHW = self.tokens.keys_values(normed_BQD, rotary)
        k_BNHW, v_BNHW = self.patches.keys_values(normed_BND, patch_rotary)
        q_BJHW = rotate(self.tokens.projection.queries(normed_BQD), rotary)
        if not self.last:
            q_BNHW = rotate(self.patches.projection.queries(normed_BND), patch_rotary)
            q_BJHW = torch.cat((q_BJHW, q_BNHW), dim=1)
        keys_BJHW, values_BJHW = torch.cat((k_BQHW, k_BNHW), dim=1), torch.cat((v_BQHW, v_BNHW), dim=1)
        attended_BJD = attend_to_all(q_BJHW, keys_BJHW, values_BJHW)
        num_tokens = x_BQD.shape[1]
        x_BQD = self.tokens.update(x_BQD, attended_BJD[:, :num_tokens])
        if not self.last:
            patches_BND = self.patches.update(patches_BND, attended_BJD[:, num_tokens:])
        return x_BQD, patches_BND

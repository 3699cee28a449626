"""Parts of the diffusion transformers' blocks: two streams, pictures and prompt, that attend to each other.

Shapes: B batch (pictures, or frames of clips), N picture tokens, L prompt tokens, J = L + N, D width, H heads, W width
of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.feed_forward import SwiGLU
from xoron_core.model.layers.moe import MoE, RouterStats
from xoron_core.model.layers.norms import RMSNorm, modulate
from xoron_core.model.layers.rope import Rotary, rotate


class TimeEmbedding(nn.Module):
    """Times in [0, 1] → vectors: sines and cosines of 1,000 t, then a small network (arXiv 2212.09748)."""

    def __init__(self, hidden_size: int, num_waves: int = 128) -> None:
        super().__init__()
        self.num_waves = num_waves
        self.up_proj = nn.Linear(2 * num_waves, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, t_B: Tensor) -> Tensor:
        """[B] → [B, D]."""
        exponents = torch.arange(self.num_waves, dtype=torch.float32, device=t_B.device) / self.num_waves
        angles = 1000.0 * t_B.float().unsqueeze(1) * 10_000.0**-exponents
        waves = torch.cat((angles.cos(), angles.sin()), dim=1).to(self.up_proj.weight.dtype)
        return self.out_proj(F.silu(self.up_proj(waves)))  # type: ignore[no-any-return]


class Modulation(Initialised):
    """Shifts, scales and gates from the condition; zero at first, so that a block starts as the identity."""

    def __init__(self, hidden_size: int, num_vectors: int) -> None:
        super().__init__()
        self.num_vectors = num_vectors
        self.proj = nn.Linear(hidden_size, num_vectors * hidden_size)

    def init_own(self, generator: torch.Generator) -> None:
        """AdaLN-zero."""
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, condition_BD: Tensor) -> tuple[Tensor, ...]:
        """[B, D], already through its activation → that many [B, D]."""
        vectors: Tensor = self.proj(condition_BD)
        return vectors.chunk(self.num_vectors, dim=-1)


class StreamProjection(nn.Module):
    """Keys, values and, unless nobody asks, queries of one stream; queries and keys are normalised a head at a time
    (arXiv 2302.05442)."""

    def __init__(self, hidden_size: int, num_heads: int, *, queries: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kv_proj = nn.Linear(hidden_size, 2 * hidden_size)
        self.k_norm = RMSNorm(hidden_size // num_heads, eps=1e-6)
        self.q_proj: nn.Linear | None = None
        self.q_norm: nn.Module | None = None
        if queries:
            self.q_proj = nn.Linear(hidden_size, hidden_size)
            self.q_norm = RMSNorm(hidden_size // num_heads, eps=1e-6)

    def keys_values(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, D] → twice [B, N, H, W]."""
        batch, tokens, width = x_BND.shape
        kv = self.kv_proj(x_BND).view(batch, tokens, 2, self.num_heads, width // self.num_heads)
        return self.k_norm(kv[:, :, 0]), kv[:, :, 1]

    def queries(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] → [B, N, H, W]."""
        assert self.q_proj is not None and self.q_norm is not None
        batch, tokens, width = x_BND.shape
        q_BNHW = self.q_proj(x_BND).view(batch, tokens, self.num_heads, width // self.num_heads)
        return self.q_norm(q_BNHW)  # type: ignore[no-any-return]


def attend_to(
    q_BNHW: Tensor, k_BJHW: Tensor, v_BJHW: Tensor, seen_B11J: Tensor | None, *, causal: bool = False
) -> Tensor:
    """Attention over tokens that are there (None: all), or over those up to the query's own, [B, N, D]."""
    out_BHNW = F.scaled_dot_product_attention(
        q_BNHW.transpose(1, 2), k_BJHW.transpose(1, 2), v_BJHW.transpose(1, 2), seen_B11J, is_causal=causal
    )
    return out_BHNW.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Picture tokens look at the prompt's states as they came from the language model."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.projection = StreamProjection(hidden_size, num_heads)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x_BND: Tensor, states_BLD: Tensor, seen_B11L: Tensor) -> Tensor:
        """[B, N, D] and [B, L, D] → [B, N, D]."""
        k_BLHW, v_BLHW = self.projection.keys_values(states_BLD)
        out_BND = attend_to(self.projection.queries(x_BND), k_BLHW, v_BLHW, seen_B11L)
        return self.out_proj(out_BND)  # type: ignore[no-any-return]


class DualStreamAttention(nn.Module):
    """AdaLN-zero → joint self-attention of both streams (arXiv 2403.03206), and the prompt's dense feed-forward.

    In the last block the prompt gives keys and values only: nobody reads it again.
    """

    def __init__(self, hidden_size: int, num_heads: int, moe: MoeConfig, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.image_modulation = Modulation(hidden_size, 3)
        self.prompt_modulation = Modulation(hidden_size, 2 if last else 6)
        self.image_projection = StreamProjection(hidden_size, num_heads)
        self.prompt_projection = StreamProjection(hidden_size, num_heads, queries=not last)
        self.image_out = nn.Linear(hidden_size, hidden_size)
        self.prompt_out: nn.Linear | None = None
        self.prompt_feed_forward: SwiGLU | None = None
        if not last:
            self.prompt_out = nn.Linear(hidden_size, hidden_size)
            # as wide as the routed experts that a picture token goes through
            self.prompt_feed_forward = SwiGLU(hidden_size, moe.top_k * moe.expert_size)

    def forward(
        self, x_BND: Tensor, prompt_BLD: Tensor, condition_BD: Tensor, seen_BJ: Tensor, rotary: Rotary
    ) -> tuple[Tensor, Tensor]:
        """Both streams, residuals added. `seen_BJ` is True for tokens that are there, prompt first."""
        num_prompt = prompt_BLD.shape[1]
        shift, scale, gate = self.image_modulation(condition_BD)
        prompt_vectors = self.prompt_modulation(condition_BD)
        normed_BND = modulate(x_BND, shift, scale)
        normed_BLD = modulate(prompt_BLD, *prompt_vectors[:2])
        k_BNHW, v_BNHW = self.image_projection.keys_values(normed_BND)
        k_BLHW, v_BLHW = self.prompt_projection.keys_values(normed_BLD)
        # the prompt stands at no place of the picture: only the picture's tokens are turned
        q_BJHW = rotate(self.image_projection.queries(normed_BND), rotary)
        k_BNHW = rotate(k_BNHW, rotary)
        if not self.last:
            q_BJHW = torch.cat((self.prompt_projection.queries(normed_BLD), q_BJHW), dim=1)
        k_BJHW, v_BJHW = torch.cat((k_BLHW, k_BNHW), dim=1), torch.cat((v_BLHW, v_BNHW), dim=1)
        joint_BJD = attend_to(q_BJHW, k_BJHW, v_BJHW, seen_BJ[:, None, None, :])
        x_BND = torch.addcmul(x_BND, gate.unsqueeze(1), self.image_out(joint_BJD[:, -x_BND.shape[1] :]))
        if self.prompt_out is not None and self.prompt_feed_forward is not None:
            prompt_gate, ff_shift, ff_scale, ff_gate = prompt_vectors[2:]
            attended_BLD = self.prompt_out(joint_BJD[:, :num_prompt])
            prompt_BLD = torch.addcmul(prompt_BLD, prompt_gate.unsqueeze(1), attended_BLD)
            normed_BLD = modulate(prompt_BLD, ff_shift, ff_scale)
            prompt_BLD = torch.addcmul(prompt_BLD, ff_gate.unsqueeze(1), self.prompt_feed_forward(normed_BLD))
        return x_BND, prompt_BLD


class DualStreamBlock(nn.Module):
    """A block for pictures: dual-stream attention → cross-attention to the prompt → experts, each under AdaLN-zero."""

    def __init__(self, hidden_size: int, num_heads: int, moe: MoeConfig, *, last: bool) -> None:
        super().__init__()
        self.joint_attention = DualStreamAttention(hidden_size, num_heads, moe, last=last)
        self.modulation = Modulation(hidden_size, 6)
        self.cross_attention = CrossAttention(hidden_size, num_heads)
        self.experts = MoE(hidden_size, moe)

    def forward(
        self,
        x_BND: Tensor,
        prompt_BLD: Tensor,
        states_BLD: Tensor,
        condition_BD: Tensor,
        seen_BJ: Tensor,
        rotary: Rotary,
    ) -> tuple[Tensor, Tensor, RouterStats]:
        """Both streams one block on. `states_BLD` is what cross-attention reads, the same in every block; `seen_BJ`
        is True for tokens that are there, prompt first."""
        x_BND, prompt_next_BLD = self.joint_attention(x_BND, prompt_BLD, condition_BD, seen_BJ, rotary)
        shift, scale, gate, moe_shift, moe_scale, moe_gate = self.modulation(condition_BD)
        seen_B11L = seen_BJ[:, None, None, : states_BLD.shape[1]]
        crossed_BND = self.cross_attention(modulate(x_BND, shift, scale), states_BLD, seen_B11L)
        x_BND = torch.addcmul(x_BND, gate.unsqueeze(1), crossed_BND)
        y_BND, stats = self.experts(modulate(x_BND, moe_shift, moe_scale))
        return torch.addcmul(x_BND, moe_gate.unsqueeze(1), y_BND), prompt_next_BLD, stats

"""Self-attention of the decoder: multi-head latent (DeepSeek-V2, arXiv 2405.04434) and grouped-query.

Shapes: B batch, T tokens, D width, H heads, K key-value heads, W width of a head, N width without position, R rotary
width, V value width, C compressed width, S cached tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.model import LanguageModelConfig
from xoron_core.model.layers.attention_mask import AttentionMask, attend
from xoron_core.model.layers.kv_cache import KeyValueCache
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, rotate


class LatentAttention(nn.Module):
    """Keys and values are made from one compressed latent a token, position from a rotary part that heads share.

    The cache holds latent and rotary key only. A single new token attends in the latent space itself: the
    up-projections are absorbed into query and output.
    """

    def __init__(self, config: LanguageModelConfig, layer: int, attention_factor: float) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = config.num_heads
        self.nope, self.rope, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.rank = config.kv_lora_rank
        self.window = config.sliding_window
        self.scale = (self.nope + self.rope) ** -0.5 * attention_factor**2
        self.cache_width = self.rank + self.rope
        hidden, heads = config.hidden_size, config.num_heads
        self.q_proj = nn.Linear(hidden, heads * (self.nope + self.rope), bias=False)
        self.kv_down_proj = nn.Linear(hidden, self.rank + self.rope, bias=False)
        self.kv_norm = RMSNorm(self.rank, eps=config.rms_norm_eps)
        self.kv_up_proj: nn.Module = nn.Linear(self.rank, heads * (self.nope + self.value), bias=False)
        self.o_proj = nn.Linear(heads * self.value, hidden, bias=False)

    def forward(self, x_BTD: Tensor, rotary: Rotary, mask: AttentionMask, cache: KeyValueCache | None = None) -> Tensor:
        """Attend; with a cache, either its first tokens or one token more, for which a `mask` without
        content means all that is cached."""
        batch, tokens, _ = x_BTD.shape
        q_BTHW = self.q_proj(x_BTD).view(batch, tokens, self.num_heads, self.nope + self.rope)
        q_nope_BTHN, q_rope_BTHR = q_BTHW.split_with_sizes((self.nope, self.rope), dim=-1)
        q_rope_BTHR = rotate(q_rope_BTHR, rotary)
        latent_BTC, k_rope_BTR = self.kv_down_proj(x_BTD).split_with_sizes((self.rank, self.rope), dim=-1)
        latent_BTC = self.kv_norm(latent_BTC)
        k_rope_BT1R = rotate(k_rope_BTR.unsqueeze(2), rotary)
        if cache is not None:
            continuing = cache.num_tokens > 0
            new_BTC = torch.cat((latent_BTC, k_rope_BT1R.squeeze(2)), dim=-1)
            seen_BSC = cache.append(self.layer, new_BTC, self.window)
            if continuing:
                out_BTHV = self._attend_absorbed(q_nope_BTHN, q_rope_BTHR, seen_BSC, mask)
                return self.o_proj(out_BTHV.flatten(2))  # type: ignore[no-any-return]
        kv_BTHW = self.kv_up_proj(latent_BTC).view(batch, tokens, self.num_heads, self.nope + self.value)
        k_nope_BTHN, v_BTHV = kv_BTHW.split_with_sizes((self.nope, self.value), dim=-1)
        k_BTHW = torch.cat((k_nope_BTHN, k_rope_BT1R.expand(-1, -1, self.num_heads, -1)), dim=-1)
        q_BTHW = torch.cat((q_nope_BTHN, q_rope_BTHR), dim=-1)
        out_BHTV = attend(q_BTHW.transpose(1, 2), k_BTHW.transpose(1, 2), v_BTHV.transpose(1, 2), mask, self.scale)
        return self.o_proj(out_BHTV.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _attend_absorbed(
        self, q_nope_BTHN: Tensor, q_rope_BTHR: Tensor, seen_BSC: Tensor, mask: AttentionMask
    ) -> Tensor:
        """One new token (T = 1) against the cached latents, [B, 1, H, V]: keys and values are never expanded."""
        latent_BSC, k_rope_BSR = seen_BSC.split_with_sizes((self.rank, self.rope), dim=-1)
        up_HWC = self._up_weight(latent_BSC).view(self.num_heads, self.nope + self.value, self.rank)
        key_up_HNC, value_up_HVC = up_HWC.split_with_sizes((self.nope, self.value), dim=1)
        q_latent_BTHC = torch.einsum("bthn,hnc->bthc", q_nope_BTHN, key_up_HNC)
        scores_BHTS = torch.einsum("bthc,bsc->bhts", q_latent_BTHC, latent_BSC)
        scores_BHTS = scores_BHTS + torch.einsum("bthr,bsr->bhts", q_rope_BTHR, k_rope_BSR)
        if mask.dense_B1TT is not None:
            scores_BHTS = scores_BHTS.masked_fill(~mask.dense_B1TT, float("-inf"))
        weights_BHTS = F.softmax(scores_BHTS.float() * self.scale, dim=-1).to(latent_BSC.dtype)
        mixed_BTHC = torch.einsum("bhts,bsc->bthc", weights_BHTS, latent_BSC)
        return torch.einsum("bthc,hvc->bthv", mixed_BTHC, value_up_HVC)

    def _up_weight(self, like: Tensor) -> Tensor:
        """What `kv_up_proj` multiplies latents by, [H·(N + V), C]; something on it, such as an adapter, included."""
        if isinstance(self.kv_up_proj, nn.Linear):
            return self.kv_up_proj.weight
        identity_CC = torch.eye(self.rank, dtype=like.dtype, device=like.device)
        return self.kv_up_proj(identity_CC).T  # type: ignore[no-any-return]


class GroupedQueryAttention(nn.Module):
    """Several query heads share one key-value head (arXiv 2305.13245)."""

    def __init__(self, config: LanguageModelConfig, layer: int, attention_factor: float) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.num_kv_heads, self.width = config.num_heads, config.num_kv_heads, config.head_dim
        self.window = config.sliding_window
        self.scale = self.width**-0.5 * attention_factor**2
        self.cache_width = 2 * self.num_kv_heads * self.width
        self.q_proj = nn.Linear(config.hidden_size, self.num_heads * self.width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.num_kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.num_kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.width, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, rotary: Rotary, mask: AttentionMask, cache: KeyValueCache | None = None) -> Tensor:
        """Attend; with a cache, either its first tokens or one token more, for which a `mask` without
        content means all that is cached."""
        batch, tokens, _ = x_BTD.shape
        q_BTHW = rotate(self.q_proj(x_BTD).view(batch, tokens, self.num_heads, self.width), rotary)
        k_BTKW = rotate(self.k_proj(x_BTD).view(batch, tokens, self.num_kv_heads, self.width), rotary)
        v_BTKW = self.v_proj(x_BTD).view(batch, tokens, self.num_kv_heads, self.width)
        if cache is not None:
            continuing = cache.num_tokens > 0
            seen_BSC = cache.append(self.layer, torch.cat((k_BTKW, v_BTKW), dim=2).flatten(2), self.window)
            if continuing:
                k_BTKW, v_BTKW = seen_BSC.view(batch, -1, 2 * self.num_kv_heads, self.width).chunk(2, dim=2)
                if mask.dense_B1TT is None:
                    everything = torch.ones((1, 1, 1, k_BTKW.shape[1]), dtype=torch.bool, device=x_BTD.device)
                    mask = AttentionMask(dense_B1TT=everything)
        out_BHTW = attend(q_BTHW.transpose(1, 2), k_BTKW.transpose(1, 2), v_BTKW.transpose(1, 2), mask, self.scale)
        return self.o_proj(out_BHTW.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


Attention = LatentAttention | GroupedQueryAttention


def make_attention(config: LanguageModelConfig, layer: int, attention_factor: float) -> Attention:
    """The kind that the configuration names."""
    if config.attention == "mla":
        return LatentAttention(config, layer, attention_factor)
    return GroupedQueryAttention(config, layer, attention_factor)

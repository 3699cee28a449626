"""What a token costs in the language model, in floating-point operations.

Counted are matrix products, a multiplication and an addition each, as in PaLM (arXiv 2204.02311, appendix B); of
attention what causality and the window leave of it, documents packed into one row not told apart.
"""

from typing import NamedTuple

from xoron_core.contract.config.model import LanguageModelConfig
from xoron_core.model.language_model import TABLE_MULTIPLE


class TokenFlops(NamedTuple):
    """Operations of a forward pass for one token."""

    layers: float
    """Products with the layers' weights; of routed experts those that a token goes through."""
    attention: float
    """Queries with keys, and what comes of it with values, on average over the positions of a row."""
    head: float
    """Scores of the next token."""

    @property
    def forward(self) -> float:
        """All of a forward pass."""
        return self.layers + self.attention + self.head

    def training(self, *, is_recomputed: bool = False) -> float:
        """Forward and backward: three times a forward pass. Where layers are recomputed they cost a fourth; the head
        never is."""
        return 3 * self.forward + (self.layers + self.attention if is_recomputed else 0)


def flops_per_token(config: LanguageModelConfig, vocab_size: int, num_tokens: int) -> TokenFlops:
    """The cost of a token in rows of `num_tokens`, from the sizes alone."""
    weights = sum(_layer_weights(config, layer) for layer in range(config.num_layers))
    keys = mean_keys(num_tokens, config.sliding_window)
    return TokenFlops(
        layers=2.0 * weights,
        attention=attention_flops(config, keys),
        head=2.0 * config.hidden_size * table_rows(vocab_size),
    )


def attention_flops(config: LanguageModelConfig, num_keys: float) -> float:
    """All layers' attention of one query to so many keys."""
    if config.attention == "mla":
        width = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    else:
        width = 2 * config.head_dim
    return 2.0 * config.num_layers * config.num_heads * width * num_keys


def table_rows(vocab_size: int) -> int:
    """Rows of the table, padding included."""
    return -(-vocab_size // TABLE_MULTIPLE) * TABLE_MULTIPLE


def mean_keys(num_tokens: int, window: int | None) -> float:
    """Positions that a position sees, its own included, on average over a row."""
    width = min(num_tokens, window or num_tokens)
    return width - width * (width - 1) / (2 * num_tokens)


def has_experts(config: LanguageModelConfig, layer: int) -> bool:
    """Whether a layer, counted from 0, has experts in the place of a feed-forward."""
    return config.moe_every > 0 and (layer + 1) % config.moe_every == 0


def _layer_weights(config: LanguageModelConfig, layer: int) -> int:
    """Weights that a token is multiplied with in a layer."""
    hidden, moe = config.hidden_size, config.moe
    if not has_experts(config, layer):
        return _attention_weights(config) + 3 * hidden * config.intermediate_size
    active = moe.top_k + moe.num_shared_experts
    return _attention_weights(config) + hidden * moe.num_experts + active * 3 * hidden * moe.expert_size


def _attention_weights(config: LanguageModelConfig) -> int:
    hidden, heads, rank = config.hidden_size, config.num_heads, config.kv_lora_rank
    if config.attention == "gqa":
        return 2 * hidden * config.head_dim * (heads + config.num_kv_heads)
    nope, rope, value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    down = hidden * (heads * (nope + rope) + rank + rope)
    return down + rank * heads * (nope + value) + heads * value * hidden

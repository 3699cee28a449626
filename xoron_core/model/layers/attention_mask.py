"""Who sees whom: causal, within a window, within a document. One mask a batch, shared by all layers.

Shapes: B batch, T tokens, H heads, W width of a head.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from xoron_core.contract.errors import ConfigError

MAX_DENSE_TOKENS_CPU = 2048
MAX_DENSE_TOKENS_GPU = 256
"""Below this a dense mask costs less than compiling and filling FlexAttention's blocks of 128."""


@dataclass(frozen=True)
class AttentionMask:
    """One of the three forms that `attend` understands; all None: plain causal."""

    dense_B1TT: Tensor | None = None
    """True where the query (row) sees the key (column)."""
    blocks: BlockMask | None = None


def dense_mask(document_ids_BT: Tensor | None, num_tokens: int, window: int | None, device: torch.device) -> Tensor:
    """The mask written out, [B or 1, 1, T, T], True where a query sees a key."""
    positions_T = torch.arange(num_tokens, device=device)
    back_TT = positions_T.unsqueeze(1) - positions_T
    seen_BTT = (back_TT >= 0).unsqueeze(0)
    if window is not None:
        seen_BTT = seen_BTT & (back_TT < window)
    if document_ids_BT is not None:
        seen_BTT = seen_BTT & (document_ids_BT.unsqueeze(2) == document_ids_BT.unsqueeze(1))
    return seen_BTT.unsqueeze(1)


def make_attention_mask(
    document_ids_BT: Tensor | None, num_tokens: int, window: int | None, device: torch.device
) -> AttentionMask:
    """The mask of a batch: dense where that is small, FlexAttention's blocks on a GPU otherwise.

    `document_ids_BT` may be None (one document a row), `window` None or the number of positions seen, own included.
    Raises ConfigError where a CPU would need a dense mask over more than 2,048 tokens.
    """
    window = None if window is None or window >= num_tokens else window
    if document_ids_BT is None and window is None:
        return AttentionMask()
    if device.type != "cuda":
        if num_tokens > MAX_DENSE_TOKENS_CPU:
            raise ConfigError.of(
                "training.max_seq_length",
                f"attention on the CPU masks at most {MAX_DENSE_TOKENS_CPU} tokens a row; shorten it or use a GPU",
                num_tokens,
            )
        return AttentionMask(dense_B1TT=dense_mask(document_ids_BT, num_tokens, window, device))
    if num_tokens <= MAX_DENSE_TOKENS_GPU:
        return AttentionMask(dense_B1TT=dense_mask(document_ids_BT, num_tokens, window, device))
    return AttentionMask(blocks=_block_mask(document_ids_BT, num_tokens, window, device))


def _block_mask(document_ids_BT: Tensor | None, num_tokens: int, window: int | None, device: torch.device) -> BlockMask:
    """FlexAttention's block-sparse form of the same rule."""

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        visible = query >= key
        if window is not None:
            visible = visible & (query - key < window)
        if document_ids_BT is not None:
            visible = visible & (document_ids_BT[batch, query] == document_ids_BT[batch, key])
        return visible

    batch_size = None if document_ids_BT is None else document_ids_BT.shape[0]
    return create_block_mask(seen, batch_size, None, num_tokens, num_tokens, device=device)


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    """FlexAttention is only fast, and only memory-lean, when compiled."""
    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return compiled


def attend(q_BHTW: Tensor, k_BHTW: Tensor, v_BHTW: Tensor, mask: AttentionMask, scale: float) -> Tensor:
    """Softmax attention under the mask, [B, H, T, W]. Keys may have fewer heads than queries, in groups."""
    grouped = k_BHTW.shape[1] != q_BHTW.shape[1]
    if mask.blocks is not None:
        # where what calls this is compiled, this is compiled with it
        flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled_flex()
        out: Tensor = flex(q_BHTW, k_BHTW, v_BHTW, block_mask=mask.blocks, scale=scale, enable_gqa=grouped)
        return out
    if grouped:
        repeats = q_BHTW.shape[1] // k_BHTW.shape[1]
        k_BHTW, v_BHTW = (x.repeat_interleave(repeats, dim=1) for x in (k_BHTW, v_BHTW))
    causal = mask.dense_B1TT is None
    return F.scaled_dot_product_attention(q_BHTW, k_BHTW, v_BHTW, mask.dense_B1TT, is_causal=causal, scale=scale)

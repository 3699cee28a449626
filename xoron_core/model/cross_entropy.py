"""Cross-entropy over a large vocabulary without the logits of all tokens at once.

Shapes: N tokens, D width, V vocabulary. The gradient is made beside the loss, chunk by chunk, while a chunk's logits
are there (the idea of Liger kernels' fused linear cross-entropy, arXiv 2410.10989): nothing is computed twice.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""A label that is not to be predicted."""

_CHUNK_ELEMENTS_CPU = 2**21
_CHUNK_ELEMENTS_GPU = 2**29


class CrossEntropy(NamedTuple):
    """Sums and single values of the weighted cross-entropy."""

    loss_sum: Tensor
    """Σ weight · loss; carries the gradient."""
    token_losses_N: Tensor
    """Unweighted loss of every token, zero where ignored; no gradient."""


def _differentiate(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The losses [N] of logits [N, V], and the gradient of Σ weight · loss by the logits; labels and weights [N, 1]."""
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32)
    losses = -log_probs.gather(1, labels).squeeze(1)
    return losses, log_probs.exp_().mul_(weights).scatter_add_(1, labels, -weights).to(logits.dtype)


def _differentiate_in_one(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same without a scatter, which a compiler makes two kernels of."""
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32)
    is_label = torch.arange(logits.shape[1], device=logits.device) == labels
    losses = -torch.where(is_label, log_probs, 0.0).sum(dim=1)
    return losses, ((log_probs.exp() - is_label.float()) * weights).to(logits.dtype)


@functools.cache
def _compiled_differentiate() -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(_differentiate_in_one)
    return compiled


class _LinearCrossEntropy(torch.autograd.Function):
    """loss_sum(hidden, table) with both gradients prepared in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, table_VD: Tensor, labels_N: Tensor, weights_N: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        need_hidden, need_table = ctx.needs_input_grad[:2]
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        table = table_VD.to(dtype)
        differentiate = _compiled_differentiate() if device == "cuda" else _differentiate
        losses_N = torch.empty(len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if need_hidden else None
        grad_table_VD = torch.zeros_like(table_VD, dtype=torch.float32) if need_table else None
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden_ND), chunk):
                rows = slice(start, start + chunk)
                hidden = hidden_ND[rows].to(dtype)
                labels = labels_N[rows].clamp(min=0).unsqueeze(1)
                weights = weights_N[rows].unsqueeze(1)
                logits = hidden @ table.t()
                if not (need_hidden or need_table):
                    losses_N[rows] = -F.log_softmax(logits, dim=-1, dtype=torch.float32).gather(1, labels).squeeze(1)
                    continue
                losses_N[rows], grad_logits = differentiate(logits, labels, weights)
                if grad_hidden_ND is not None:
                    grad_hidden_ND[rows] = grad_logits @ table
                if grad_table_VD is not None:
                    if dtype == torch.float32:
                        grad_table_VD.addmm_(grad_logits.t(), hidden)
                    else:
                        grad_table_VD += grad_logits.t() @ hidden
                del logits, grad_logits  # before those of the next chunk are made
        ctx.save_for_backward(grad_hidden_ND, grad_table_VD)
        ctx.table_dtype = table_VD.dtype
        losses_N = losses_N.masked_fill_(labels_N == IGNORED, 0.0)
        ctx.mark_non_differentiable(losses_N)
        return (losses_N * weights_N).sum(), losses_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_hidden_ND, grad_table_VD = ctx.saved_tensors
        if grad_hidden_ND is not None:
            grad_hidden_ND = grad_hidden_ND * grads[0].to(grad_hidden_ND.dtype)
        if grad_table_VD is not None:
            grad_table_VD = (grad_table_VD * grads[0]).to(ctx.table_dtype)
        return grad_hidden_ND, grad_table_VD, None, None, None


def chunk_tokens(num_rows: int, device_type: str) -> int:
    """Tokens whose logits over a table of so many rows are held at a time."""
    elements = _CHUNK_ELEMENTS_GPU if device_type == "cuda" else _CHUNK_ELEMENTS_CPU
    return max(64, elements // num_rows)


def linear_cross_entropy(
    hidden_ND: Tensor, table_VD: Tensor, labels_N: Tensor, weights_N: Tensor, chunk: int | None = None
) -> CrossEntropy:
    """Σ weight · cross-entropy(hidden · tableᵀ, label) over labels other than -100.

    `weights_N` is fp32; where the label is -100 it counts as 0. `chunk`: tokens whose logits are held at a time;
    None: as many as suit the device. No second derivative.
    """
    if chunk is None:
        chunk = chunk_tokens(len(table_VD), hidden_ND.device.type)
    weights_N = weights_N.float().masked_fill(labels_N == IGNORED, 0.0)
    loss_sum, losses_N = _LinearCrossEntropy.apply(hidden_ND, table_VD, labels_N, weights_N, chunk)
    return CrossEntropy(loss_sum, losses_N)

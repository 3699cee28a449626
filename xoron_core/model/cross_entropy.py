"""Cross-entropy over a large vocabulary without the logits of all tokens at once.

Shapes: N tokens, D width, V vocabulary. The gradient is made beside the loss, chunk by chunk, while a chunk's logits
are there (the idea of Liger kernels' fused linear cross-entropy, arXiv 2410.10989): nothing is computed twice.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""A label that is not to be predicted."""

_CHUNK_ELEMENTS_CPU = 2**21
_CHUNK_ELEMENTS_GPU = 2**27


class CrossEntropy(NamedTuple):
    """Sums and single values of the weighted cross-entropy."""

    loss_sum: Tensor
    """Σ weight · loss; carries the gradient."""
    token_losses_N: Tensor
    """Unweighted loss of every token, zero where ignored; no gradient."""


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
        losses_N = torch.empty(len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if need_hidden else None
        grad_table_VD = torch.zeros_like(table_VD, dtype=torch.float32) if need_table else None
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden_ND), chunk):
                rows = slice(start, start + chunk)
                hidden = hidden_ND[rows].to(dtype)
                labels = labels_N[rows].clamp(min=0).unsqueeze(1)
                weights = weights_N[rows].unsqueeze(1)
                log_probs = F.log_softmax(hidden @ table.t(), dim=-1, dtype=torch.float32)
                losses_N[rows] = -log_probs.gather(1, labels).squeeze(1)
                if not (need_hidden or need_table):
                    continue
                grad_logits = log_probs.exp_().mul_(weights).scatter_add_(1, labels, -weights).to(dtype)
                if grad_hidden_ND is not None:
                    grad_hidden_ND[rows] = grad_logits @ table
                if grad_table_VD is not None:
                    if dtype == torch.float32:
                        grad_table_VD.addmm_(grad_logits.t(), hidden)
                    else:
                        grad_table_VD += grad_logits.t() @ hidden
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


def linear_cross_entropy(
    hidden_ND: Tensor, table_VD: Tensor, labels_N: Tensor, weights_N: Tensor, chunk: int | None = None
) -> CrossEntropy:
    """Σ weight · cross-entropy(hidden · tableᵀ, label) over labels other than -100.

    `weights_N` is fp32; where the label is -100 it counts as 0. `chunk`: tokens whose logits are held at a time;
    None: as many as suit the device. No second derivative.
    """
    if chunk is None:
        elements = _CHUNK_ELEMENTS_GPU if hidden_ND.device.type == "cuda" else _CHUNK_ELEMENTS_CPU
        chunk = max(64, elements // len(table_VD))
    weights_N = weights_N.float().masked_fill(labels_N == IGNORED, 0.0)
    loss_sum, losses_N = _LinearCrossEntropy.apply(hidden_ND, table_VD, labels_N, weights_N, chunk)
    return CrossEntropy(loss_sum, losses_N)

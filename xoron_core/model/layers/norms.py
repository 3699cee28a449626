"""Normalisation. Shapes: B batch, T tokens, D width."""

import torch.nn.functional as F
from torch import Tensor, nn

RMSNorm = nn.RMSNorm
"""Root mean square norm with a learned scale (arXiv 1910.07467); torch's own is fused and sums in fp32."""


def modulate(x_BTD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """LayerNorm without parameters, then a scale and a shift that come from the condition (AdaLN, arXiv 2212.09748)."""
    normed_BTD = F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6)
    return shift_BD.unsqueeze(1).addcmul(normed_BTD, 1 + scale_BD.unsqueeze(1))

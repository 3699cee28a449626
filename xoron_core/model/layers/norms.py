"""Normalisation. Shapes: B batch, T tokens, D width."""

import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """Root mean square norm with a learned scale (arXiv 1910.07467), in the precision of the scale.

    Torch's own kernel sums in fp32, and takes input and scale of one precision only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[…, D] → the same."""
        return super().forward(x.to(self.weight.dtype))


def modulate(x_BTD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """LayerNorm without parameters, then a scale and a shift that come from the condition (AdaLN, arXiv 2212.09748)."""
    normed_BTD = F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=1e-6)
    return shift_BD.unsqueeze(1).addcmul(normed_BTD, 1 + scale_BD.unsqueeze(1))

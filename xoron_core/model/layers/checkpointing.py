"""Recomputing activations in the backward pass instead of keeping them."""

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    """A stack of layers that can recompute each layer's activations in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute activations, or stop doing so."""
        self.gradient_checkpointing = enabled

    def run_layer(self, layer: nn.Module, *inputs: Any) -> Any:
        """`layer(*inputs)`, whose activations are not kept where that is asked for; in training only."""
        if self.gradient_checkpointing and self.training:
            # no dropout anywhere in the model: no random state to carry
            return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
        return layer(*inputs)

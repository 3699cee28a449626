"""Stacks of layers: recomputing their activations in the backward pass, and compiling them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def _call(layer: nn.Module, *inputs: Any) -> Any:
    return layer(*inputs)


class Checkpointed(nn.Module):
    """A stack of layers that can recompute each layer's activations in the backward pass, and compile each layer.

    Both hold in training only: generation has lengths without end, and evaluation is not worth compiling for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.draws_randomly = False
        """Whether layers draw random numbers, as the dropout of adapters does: recomputed, they draw the same again."""
        self._compiled: Callable[..., Any] | None = None

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute activations, or stop doing so."""
        self.gradient_checkpointing = enabled

    def compile_layers(self) -> None:
        """Compile the layers: each kind of them once, at its first use."""
        self._compiled = torch.compile(_call)

    def run_layer(self, layer: nn.Module, *inputs: Any) -> Any:
        """`layer(*inputs)`, compiled, and without keeping its activations, where that is asked for."""
        if not self.training:
            return layer(*inputs)
        call = self._compiled or _call
        if self.gradient_checkpointing:
            carries = self.draws_randomly
            return checkpoint(call, layer, *inputs, use_reentrant=False, preserve_rng_state=carries)
        return call(layer, *inputs)

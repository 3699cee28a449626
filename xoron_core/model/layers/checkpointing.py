"""Stacks of layers: recomputing their activations in the backward pass, and compiling them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    """A stack of layers that can recompute each layer's activations in the backward pass, and compile each layer.

    Both hold in training only: generation has lengths without end, and evaluation is not worth compiling for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.draws_randomly = False
        """Whether layers draw random numbers, as the dropout of adapters does: recomputed, they draw the same again."""
        self._backend: str | None = None
        self._compiled: dict[nn.Module, Callable[..., Any]] = {}

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute activations, or stop doing so."""
        self.gradient_checkpointing = enabled

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the layers: each kind of them once, at its first use. `backend` is torch's name of what does it."""
        self._backend = backend

    def run_layer(self, layer: nn.Module, *inputs: Any) -> Any:
        """`layer(*inputs)`, compiled, and without keeping its activations, where that is asked for."""
        if not self.training:
            return layer(*inputs)
        call = layer if self._backend is None else self._compiled_of(layer, self._backend)
        if self.gradient_checkpointing:
            carries = self.draws_randomly
            return checkpoint(call, *inputs, use_reentrant=False, preserve_rng_state=carries)
        return call(*inputs)

    def _compiled_of(self, layer: nn.Module, backend: str) -> Callable[..., Any]:
        """Layers of one class share what is compiled: it belongs to the code of their forward pass."""
        if layer not in self._compiled:
            self._compiled[layer] = torch.compile(layer, backend=backend)
        return self._compiled[layer]

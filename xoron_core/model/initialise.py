"""Initial weights, from one seeded generator, also after construction on the meta device.

Weights are drawn on the generator's own device and copied, so that a CPU generator gives the same model everywhere.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Initialised(nn.Module, ABC):
    """A module that sets parameters or buffers itself; its children are initialised before it."""

    @abstractmethod
    def init_own(self, generator: torch.Generator) -> None:
        """Set what this module owns, and overrule its children where it knows better."""


def draw_normal(tensor: Tensor, std: float, generator: torch.Generator) -> None:
    """Fill with normal values of this standard deviation, whatever the tensor's device and dtype."""
    drawn = torch.empty(tensor.shape, dtype=torch.float32, device=generator.device).normal_(0, std, generator=generator)
    tensor.copy_(drawn)


def init_module(root: nn.Module, generator: torch.Generator, std: float | None = None) -> None:
    """Initialise every parameter and buffer under `root`; afterwards nothing uninitialised is left.

    `std` is that of linear layers and embeddings; None: 1/√(inputs) for linear layers, 0.02 for embeddings.
    The order is fixed (children before parents, later children first), so one seed gives one model.
    """
    with torch.no_grad():
        for module in reversed(list(root.modules())):
            _init_standard(module, generator, std)
            if isinstance(module, Initialised):
                module.init_own(generator)


def _init_standard(module: nn.Module, generator: torch.Generator, std: float | None) -> None:
    """The layers that torch itself brings."""
    match module:
        case nn.Linear():
            draw_normal(module.weight, module.in_features**-0.5 if std is None else std, generator)
        case nn.Conv1d() | nn.Conv2d():
            inputs = module.weight[0].numel()
            draw_normal(module.weight, (2.0 / inputs) ** 0.5, generator)
        case nn.ConvTranspose1d():
            inputs = module.weight.shape[0] * module.kernel_size[0] // module.stride[0]
            draw_normal(module.weight, (2.0 / inputs) ** 0.5, generator)
        case nn.GRU():
            for name, parameter in sorted(module.named_parameters()):
                if name.startswith("bias"):
                    nn.init.zeros_(parameter)
                else:
                    draw_normal(parameter, module.hidden_size**-0.5, generator)
        case nn.Embedding():
            draw_normal(module.weight, 0.02 if std is None else std, generator)
        case nn.GroupNorm() | nn.LayerNorm() | nn.RMSNorm():
            nn.init.ones_(module.weight)
        case _:
            return
    biased = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.GroupNorm | nn.LayerNorm
    if isinstance(module, biased) and module.bias is not None:
        nn.init.zeros_(module.bias)

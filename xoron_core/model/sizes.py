"""How large a model is, also one that was built on the meta device and has no memory."""

from dataclasses import dataclass

from torch import nn

from xoron_core.model.layers.moe import MoE
from xoron_core.model.xoron import XoronMultimodalModel


@dataclass(frozen=True)
class ComponentSize:
    """One component in numbers."""

    name: str
    parameters: int
    """All of them."""
    active_parameters: int
    """Those that a token meets: of routed experts as many as it goes through."""
    weight_bytes: int
    """Memory of parameters and buffers, as they are kept."""


def component_sizes(model: XoronMultimodalModel) -> list[ComponentSize]:
    """The components that are built, in the order in which they are."""
    return [_size_of(name, module) for name, module in model.named_children()]


def _size_of(name: str, component: nn.Module) -> ComponentSize:
    parameters = sum(parameter.numel() for parameter in component.parameters())
    resting = sum(_resting(module) for module in component.modules() if isinstance(module, MoE))
    tensors = [*component.parameters(), *component.buffers()]
    return ComponentSize(
        name, parameters, parameters - resting, sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    )


def _resting(moe: MoE) -> int:
    """Parameters of the routed experts that one token does not go through."""
    config = moe.router.config
    routed = sum(parameter.numel() for parameter in moe.experts.parameters())
    return routed * (config.num_experts - config.top_k) // config.num_experts

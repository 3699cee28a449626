"""Which weights a logical name means: those of latent attention and of stacked experts have names of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from xoron_core.contract.config.lora import LoraConfig, LoraTarget
from xoron_core.contract.errors import ConfigError
from xoron_core.model.layers.moe import Experts

LINEAR: Mapping[LoraTarget, tuple[str, ...]] = MappingProxyType(
    {
        "q_proj": ("q_proj",),
        "k_proj": ("k_proj", "kv_down_proj", "kv_up_proj"),
        "v_proj": ("v_proj", "kv_down_proj", "kv_up_proj"),
        "o_proj": ("o_proj",),
        "gate_proj": ("gate_proj",),
        "up_proj": ("up_proj",),
        "down_proj": ("down_proj",),
    }
)
"""Linear layers that a name stands for, wherever they are: one kind of attention has some of them, one the others."""

STACKED: Mapping[LoraTarget, str] = MappingProxyType(
    {"gate_proj": "gate_up_EDF", "up_proj": "gate_up_EDF", "down_proj": "down_EFD"}
)
"""Weights of `Experts` that a name stands for; gate and up are one weight there."""


@dataclass(frozen=True)
class Targets:
    """What gets an adapter, by the last part of its name."""

    linear: tuple[str, ...]
    stacked: tuple[str, ...]
    """Of experts, in the order in which they are wrapped: the model's own."""


def find_targets(llm: nn.Module, lora: LoraConfig) -> Targets:
    """The weights of a language model that `target_modules` means.

    Raises: ConfigError for a name that means none.
    """
    linear = {name.rpartition(".")[2] for name, module in llm.named_modules() if isinstance(module, nn.Linear)}
    has_experts = any(isinstance(module, Experts) for module in llm.modules())
    for target in lora.target_modules:
        if linear.isdisjoint(LINEAR[target]) and not (has_experts and target in STACKED):
            raise ConfigError.of(
                "lora.target_modules", f"the language model has no weight that {target!r} means; leave it out", target
            )
    meant = {name for target in lora.target_modules for name in LINEAR[target]}
    return Targets(tuple(sorted(meant & linear)), stacked_targets(lora) if has_experts else ())


def stacked_targets(lora: LoraConfig) -> tuple[str, ...]:
    """The weights of `Experts` that `target_modules` means, in the model's order."""
    meant = {STACKED[target] for target in lora.target_modules if target in STACKED}
    return tuple(name for name in ("gate_up_EDF", "down_EFD") if name in meant)

"""AdamW with decay where it belongs."""

from typing import Any, cast

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from xoron_core.contract.config.training import TrainingConfig


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices and experts; not to norms, biases and embeddings."""
    return parameter.ndim >= 2 and "embed" not in name


def build_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """AdamW (arXiv 1711.05101) over the parameters that want gradients, in 8 bits where asked.

    Parameter groups stand in the order decayed, not decayed, first those at the learning rate itself, then those of the
    components that have a ratio of their own; within a group in the order of the model.
    """
    ratios: dict[str | None, float] = {None: 1.0}
    ratios.update(config.component_lr_ratios.items())
    named: dict[str | None, list[tuple[str, nn.Parameter]]] = {component: [] for component in ratios}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            component = name.partition(".")[0]
            named[component if component in ratios else None].append((name, parameter))
    groups = [
        {
            "params": [parameter for name, parameter in named[component] if decays(name, parameter) is decayed],
            "weight_decay": config.weight_decay if decayed else 0.0,
            "lr": config.learning_rate * ratio,
        }
        for component, ratio in ratios.items()
        for decayed in (True, False)
        if component is None or named[component]
    ]
    betas = (config.adam_beta1, config.adam_beta2)
    if config.use_8bit_optimizer:
        from bitsandbytes.optim import adamw

        optimizer: Optimizer = cast("Any", adamw.AdamW8bit)(groups, lr=config.learning_rate, betas=betas)
        return optimizer
    return AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def gradient_norm(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale gradients down to `max_norm` in place; the norm before that, a scalar on the device."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)

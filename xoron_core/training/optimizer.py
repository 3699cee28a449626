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

    Parameter groups stand in the order decayed, not decayed; within a group in the order of the model.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": config.weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
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

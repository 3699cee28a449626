"""AdamW with decay where it belongs."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.training.master_weights import MasterAdamW

TABLES = ("embed", "queries_", "latents_")
"""Parts of the names of what is embedded: tables of tokens and positions, the layers that embed patches and times,
learned queries and latents that read media."""
SCALES = ("log_alpha_", "log_beta_")
"""And of scales that have an axis more than others."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices and experts; not to norms, scales, biases and whatever is embedded."""
    return parameter.ndim >= 2 and not any(part in name for part in TABLES + SCALES)


def is_second_matrix(name: str) -> bool:
    """Whether a parameter of this name is the matrix B of an adapter, which starts at zero."""
    return ".lora_B." in name


def check_optimizer(config: TrainingConfig) -> None:
    """Raises: ConfigError when the optimizer that is asked for is not installed."""
    if config.use_8bit_optimizer and find_spec("bitsandbytes") is None:
        raise ConfigError.of(
            "training.use_8bit_optimizer",
            "bitsandbytes is not installed; install it (pip install bitsandbytes), or set "
            "training.use_8bit_optimizer to false",
            config.use_8bit_optimizer,
        )


def build_optimizer(model: nn.Module, config: TrainingConfig, lora: LoraConfig | None = None) -> Optimizer:
    """AdamW (arXiv 1711.05101) over the parameters that want gradients: in 8 bits where asked, with float32 masters
    where weights are kept in float16.

    Parameter groups stand in the order decayed, not decayed, second matrices of adapters where LoRA+ gives them a
    learning rate of their own; first those at the learning rate itself, then those of the components that have a ratio
    of their own; within a group in the order of the model.
    Raises: ConfigError when there is nothing to train, or the optimizer is not installed.
    """
    check_optimizer(config)
    groups = list(_groups(model, config, lora))
    if not any(group["params"] for group in groups):
        raise ConfigError.of(
            "training.frozen_components",
            "nothing is left to train; take a component out of it",
            list(config.frozen_components),
        )
    betas = (config.adam_beta1, config.adam_beta2)
    if config.use_8bit_optimizer:
        from bitsandbytes.optim import adamw

        optimizer: Optimizer = cast("Any", adamw.AdamW8bit)(groups, lr=config.learning_rate, betas=betas)
        return optimizer
    if any(parameter.dtype == torch.float16 for group in groups for parameter in group["params"]):
        return MasterAdamW(groups, lr=config.learning_rate, betas=betas)
    return AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def _groups(model: nn.Module, config: TrainingConfig, lora: LoraConfig | None) -> Iterator[dict[str, Any]]:
    """Parameter groups: see `build_optimizer`."""
    second_ratio = lora.lora_plus_lr_ratio if lora is not None and lora.use_lora and lora.use_lora_plus else None
    ratios: dict[str | None, float] = {None: 1.0}
    ratios.update(config.component_lr_ratios.items())
    named: dict[str | None, list[tuple[str, nn.Parameter]]] = {component: [] for component in ratios}
    second: dict[str | None, list[nn.Parameter]] = {component: [] for component in ratios}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            component = name.partition(".")[0]
            key = component if component in ratios else None
            if second_ratio is not None and is_second_matrix(name):
                second[key].append(parameter)
            else:
                named[key].append((name, parameter))
    for key, ratio in ratios.items():
        rate = config.learning_rate * ratio
        for decayed in (True, False):
            if key is None or named[key]:
                params = [parameter for name, parameter in named[key] if decays(name, parameter) is decayed]
                yield {"params": params, "weight_decay": config.weight_decay if decayed else 0.0, "lr": rate}
        if second_ratio is not None and second[key]:
            yield {"params": second[key], "weight_decay": config.weight_decay, "lr": rate * second_ratio}


def gradient_norm(parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale gradients down to `max_norm` in place; the norm before that, a scalar on the device."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)

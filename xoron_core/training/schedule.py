"""The learning rate as a function of the step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from xoron_core.contract.config.training import TrainingConfig


def lr_factor(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Share of the peak learning rate at optimizer step `step` (0 is the first) of `total_steps`.

    Linear warm-up over `warmup_ratio`, then cosine (arXiv 1608.03983), linear, constant, or `wsd`: the peak until the
    last `decay_ratio` of the steps (MiniCPM, arXiv 2404.06395), which fall linearly (arXiv 2405.18392). All but
    `constant` end at `min_lr_ratio` and stay there.
    """
    warmup = round(config.warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.lr_schedule == "constant":
        return 1.0
    start = warmup
    if config.lr_schedule == "wsd":
        start = max(warmup, total_steps - round(config.decay_ratio * total_steps))
    progress = min(1.0, max(0, step - start) / max(1, total_steps - start))
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if config.lr_schedule == "cosine" else 1 - progress
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * shape


def build_scheduler(optimizer: Optimizer, total_steps: int, config: TrainingConfig) -> LambdaLR:
    """A scheduler over optimizer steps."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, config))

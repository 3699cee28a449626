"""Mixed precision as the reference sets it up: by the model's dtype and the configuration."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.amp import GradScaler, autocast

from xoron_core.contract.config.training import TrainingConfig


@dataclass(frozen=True)
class Precision:
    """What forward passes are cast to, and the scaler of their loss where one is needed."""

    device: torch.device
    amp_dtype: torch.dtype | None
    scaler: GradScaler | None

    @classmethod
    def of(cls, config: TrainingConfig, model: nn.Module, device: torch.device) -> "Precision":
        """bfloat16 on a GPU that has it, float16 with a scaler where asked, else the model's own precision.

        On the CPU everything runs in the model's precision: autocast is slower there than float32.
        """
        model_dtype = next(model.parameters()).dtype
        if device.type != "cuda" or model_dtype != torch.float32:
            return cls(device, None, None)
        if config.bf16 and torch.cuda.is_bf16_supported(including_emulation=False):
            return cls(device, torch.bfloat16, None)
        if config.fp16 or config.bf16:
            return cls(device, torch.float16, GradScaler("cuda"))
        return cls(device, None, None)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.amp_dtype is None:
            return nullcontext()
        return autocast(self.device.type, dtype=self.amp_dtype)

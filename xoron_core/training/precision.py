"""Mixed precision as the reference sets it up: by the model's dtype and the configuration."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.amp import GradScaler, autocast

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.errors import AnotherModelError


@dataclass(frozen=True)
class Precision:
    """What forward passes are cast to, and the scaler of their loss where one is needed."""

    device: torch.device
    amp_dtype: torch.dtype | None
    """None: passes are computed in the precision of the weights."""
    scaler: GradScaler | None
    has_half_weights: bool = False
    """Whether weights are kept in float16."""

    @classmethod
    def of(cls, config: TrainingConfig, model: nn.Module, device: torch.device) -> "Precision":
        """float16 without a scaler where weights are kept in it; else bfloat16 on a GPU that has it, float16 with a
        scaler where asked, else the model's own precision.

        On the CPU a float32 model runs in its own precision: autocast is slower there than float32.
        """
        if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
            return cls(device, torch.float16, None, has_half_weights=True)
        model_dtype = next(model.parameters()).dtype
        if device.type != "cuda" or model_dtype != torch.float32:
            return cls(device, None, None)
        if config.bf16 and torch.cuda.is_bf16_supported(including_emulation=False):
            return cls(device, torch.bfloat16, None)
        if config.fp16 or config.bf16:
            return cls(device, torch.float16, GradScaler("cuda"))
        return cls(device, None, None)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass in training."""
        if self.amp_dtype is None:
            return nullcontext()
        return autocast(self.device.type, dtype=self.amp_dtype)

    def in_evaluation(self) -> AbstractContextManager[object]:
        """The context of evaluation and of sampling: only weights in float16 need one, to meet what is float32 (media,
        noise)."""
        return self.autocast() if self.has_half_weights else nullcontext()


def keep_weights_in(model: XoronMultimodalModel, dtype: torch.dtype) -> None:
    """Keep the weights of a model in another precision.

    Buffers stay float32: frequencies of positions, the routers' biases and counters, statistics of latents. So do the
    weights of the autoencoder, which is never trained: how exact it is limits everything that learns from its latents.
    """
    for name, component in model.named_children():
        if name == "autoencoder":
            continue
        for module in component.modules():
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # cuDNN wants them in one piece of memory


def check_saved_precision(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Raises: AnotherModelError when weights were saved in another precision than they are kept in here."""
    for name, tensor in model.state_dict().items():
        if name in saved and saved[name].dtype != tensor.dtype:
            was, here = (str(dtype).removeprefix("torch.") for dtype in (saved[name].dtype, tensor.dtype))
            raise AnotherModelError(
                f"{name} was saved in {was} and is kept in {here} here; set training.model_dtype back to {was!r}, "
                "a run cannot change it"
            )

"""Adapters on the stacked weights of experts. Loads peft: import it where adapters are made, and nowhere else.

Shapes: E experts, I inputs, O outputs, R rank.
"""

from typing import Any, cast

import torch
from peft.tuners.lora import ParamWrapper
from torch import Tensor


class AdaptedExperts(ParamWrapper):
    """peft's adapter on one weight of `Experts`, which hands the adapted weight over as an argument.

    peft itself replaces the parameter for the time of a call, which computes the sum twice and cannot be compiled.
    What is on the other weight wraps this one, or is wrapped by it.
    """

    def forward(self, *inputs: Tensor, **adapted: Tensor) -> Tensor:
        """What `Experts` does, with this weight and those that `adapted` brings."""
        if not self.merged and not self.disable_adapters:
            adapted[self.parameter_name] = self.adapted_weight()
        return self.base_layer(*inputs, **adapted)  # type: ignore[no-any-return]

    def adapted_weight(self) -> Tensor:
        """W + scaling · A · B for each expert, [E, I, O].

        In the weights' own precision also under autocast: rounded first, most of what is added would be lost.
        """
        (adapter,) = self.active_adapters
        weight_EIO: Tensor = cast("Any", self).get_param()
        a_ERI = cast("Tensor", self.lora_A[adapter].weight).view(self.num_experts, -1, weight_EIO.shape[1])
        b_ORE = cast("Tensor", self.lora_B[adapter].weight).view(weight_EIO.shape[2], -1, self.num_experts)
        scaling: Any = self.scaling[adapter]
        with torch.autocast(weight_EIO.device.type, enabled=False):
            return torch.baddbmm(weight_EIO, a_ERI.transpose(1, 2), b_ORE.permute(2, 1, 0), alpha=scaling)

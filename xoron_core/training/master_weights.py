"""AdamW for weights that are kept in half precision.

Mixed precision with master weights (arXiv 1710.03740, section 3.1): an update is often smaller than the spacing of
float16 at its weight, and would be rounded away. So each weight has a float32 copy, the master, which is what is
stepped; the weight itself is the master, rounded.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.adamw import adamw


class MasterAdamW(AdamW):
    """AdamW (arXiv 1711.05101) whose gradients, moments and masters are float32, whatever the weights are.

    A parameter's state is `step`, `exp_avg` and `exp_avg_sq`, as torch has them, and `master`. Gradients are float32
    from the moment a backward pass has made one, so that micro-batches add up, and norms are taken, in float32.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        for parameter in self._parameters():
            parameter.grad_dtype = torch.float32

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step the masters of parameters that have a gradient, and round them into the parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                self._step_group(group, moved)
        return loss

    def _step_group(self, group: dict[str, Any], moved: list[Parameter]) -> None:
        states = [self._state_of(parameter) for parameter in moved]
        masters = [state["master"] for state in states]
        beta1, beta2 = group["betas"]
        adamw(
            masters,
            [cast("Tensor", parameter.grad) for parameter in moved],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        torch._foreach_copy_([*moved], masters)  # a kernel for many parameters; torch's own optimizers use it

    def _state_of(self, parameter: Parameter) -> dict[str, Any]:
        """A parameter's state, made at its first step."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            master = parameter.detach().clone().float()
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(master), torch.zeros_like(master)
            state["master"] = master
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; torch alone would round the state to the precision of the weights."""
        super().load_state_dict(state_dict)
        indices = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for index, parameter in zip(indices, self._parameters(), strict=True):
            if index in state_dict["state"]:
                saved = state_dict["state"][index]
                self.state[parameter] = {name: value.to(parameter.device, copy=True) for name, value in saved.items()}

"""Mixture of experts: a router, routed experts as one grouped product, shared experts that are always on.

Shapes: B batch, T tokens, D width, N = B·T tokens in a row, K experts a token, E experts, M = N·K, F expert width.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.layers.feed_forward import SwiGLU

_not_compiled: Callable[..., Any] = torch.compiler.disable(F.grouped_mm)  # type: ignore[no-untyped-call]
"""The compiler refuses in float32 and float16 what works without it."""


class RouterStats(NamedTuple):
    """What a pass through one layer of experts tells its surroundings."""

    load_E: Tensor
    """Choices that fell on each expert, padding left out; fp32, no gradient."""
    aux_loss: Tensor
    """Weighted balance loss, a scalar; zero where the balance is loss-free."""


class Routing(NamedTuple):
    """The router's decision for N tokens."""

    weights_NK: Tensor
    experts_NK: Tensor
    stats: RouterStats


class Router(Initialised):
    """Scores in fp32; a bias takes part in the choice only, never in the weights (arXiv 2408.15664).

    `load_E` counts choices since the last `update_bias`; `last_load_E` is what the last completed step counted.
    """

    bias_E: Tensor
    load_E: Tensor
    last_load_E: Tensor

    def __init__(self, hidden_size: int, config: MoeConfig) -> None:
        super().__init__()
        self.config = config
        self.weight_ED = nn.Parameter(torch.empty(config.num_experts, hidden_size))
        self.register_buffer("bias_E", torch.zeros(config.num_experts))
        # counters live within a step, and checkpoints stand between steps
        self.register_buffer("load_E", torch.zeros(config.num_experts), persistent=False)
        self.register_buffer("last_load_E", torch.zeros(config.num_experts))  # so that metrics go on after a resume

    def init_own(self, generator: torch.Generator) -> None:
        """Small weights: at first the experts are chosen nearly evenly."""
        draw_normal(self.weight_ED, 0.02, generator)
        for buffer in (self.bias_E, self.load_E, self.last_load_E):
            buffer.zero_()

    def forward(self, x_ND: Tensor, valid_N: Tensor | None) -> Routing:
        """Choose K experts a token by score + bias and weigh them by score, normalised over the K."""
        config = self.config
        with torch.autocast(x_ND.device.type, enabled=False):
            logits_NE = F.linear(x_ND.float(), self.weight_ED.float())
            scores_NE = logits_NE.sigmoid() if config.balance == "loss_free" else logits_NE.softmax(dim=-1)
            experts_NK = (scores_NE.detach() + self.bias_E).topk(config.top_k, dim=-1).indices
            weights_NK = scores_NE.gather(1, experts_NK)
            weights_NK = weights_NK / (weights_NK.sum(dim=-1, keepdim=True) + 1e-20)
            chosen_NKE = experts_NK.unsqueeze(-1) == torch.arange(config.num_experts, device=x_ND.device)
            if valid_N is not None:
                chosen_NKE = chosen_NKE & valid_N.view(-1, 1, 1)
            load_E = chosen_NKE.sum(dim=(0, 1), dtype=torch.float32)
            aux_loss = self._aux_loss(scores_NE, load_E, valid_N)
        return Routing(weights_NK, experts_NK, RouterStats(load_E, aux_loss))

    def _aux_loss(self, scores_NE: Tensor, load_E: Tensor, valid_N: Tensor | None) -> Tensor:
        """E · Σ share of choices · mean probability (arXiv 2101.03961), times its weight: 1 · weight when even."""
        if self.config.balance == "loss_free":
            return load_E.new_zeros(())
        valid_N1 = scores_NE.new_ones(len(scores_NE), 1) if valid_N is None else valid_N.unsqueeze(-1).float()
        mean_E = (scores_NE * valid_N1).sum(dim=0) / valid_N1.sum().clamp(min=1)
        share_E = load_E / load_E.sum().clamp(min=1)
        return self.config.aux_loss_weight * self.config.num_experts * (share_E * mean_E).sum()

    @torch.no_grad()
    def update_bias(self) -> None:
        """After an optimizer step: nudge the bias towards even load, and start counting anew.

        With several ranks, sum `load_E` over them first. A step that did not come through here changes nothing; the
        bias of a router whose weights are frozen stays as well.
        """
        nudge_E = torch.sign(self.load_E.mean() - self.load_E)
        if self.config.balance == "loss_free" and self.weight_ED.requires_grad:
            self.bias_E.add_(nudge_E - nudge_E.mean(), alpha=self.config.bias_update_rate)
        self.last_load_E.copy_(torch.where(self.load_E.sum() > 0, self.load_E, self.last_load_E))
        self.load_E.zero_()

    def metrics(self) -> dict[str, Tensor]:
        """`load_max` (largest over mean load, 1 when even) and `entropy` (of the load, over its maximum log E) of the
        last completed step that came through here; stays on the device."""
        share_E = self.last_load_E / self.last_load_E.sum().clamp(min=1)
        entropy = -torch.xlogy(share_E, share_E).sum() / max(math.log(len(share_E)), 1e-20)
        return {"load_max": share_E.max() * len(share_E), "entropy": entropy}


class _Dispatch(torch.autograd.Function):
    """Rows copied K times in expert order; the gradient is gathered back and summed, never scattered by atomics."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, order_M: Tensor, inverse_M: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(inverse_M)
        ctx.top_k = top_k
        return x_ND.index_select(0, order_M // top_k)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse_M,) = ctx.saved_tensors
        grad_MD = grads[0].index_select(0, inverse_M)
        return grad_MD.view(-1, ctx.top_k, grad_MD.shape[-1]).sum(dim=1), None, None, None


class _Permute(torch.autograd.Function):
    """Rows in another order; the gradient goes the way back by a gather."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, order_M: Tensor, inverse_M: Tensor) -> Tensor:
        ctx.save_for_backward(inverse_M)
        return x_MD.index_select(0, order_M)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inverse_M,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse_M), None, None


def _grouped_product(x_MD: Tensor, weight_EDF: Tensor, ends_E: Tensor) -> Tensor:
    """Rows of each expert, which end at `ends_E`, times its own matrix: [M, D] · [E, D, F] → [M, F]."""
    product = F.grouped_mm if x_MD.dtype == torch.bfloat16 else _not_compiled
    result: Tensor = product(x_MD, weight_EDF, offs=ends_E)
    return result


class Experts(Initialised):
    """SwiGLU experts whose weights are stacked, so that all run as two grouped matrix products."""

    is_transposed = True
    """Inputs come before outputs, which peft asks of weights like these."""

    def __init__(self, hidden_size: int, num_experts: int, expert_size: int, std: float | None = None) -> None:
        super().__init__()
        self.std = std
        self.gate_up_EDF = nn.Parameter(torch.empty(num_experts, hidden_size, 2 * expert_size))
        self.down_EFD = nn.Parameter(torch.empty(num_experts, expert_size, hidden_size))

    def init_own(self, generator: torch.Generator) -> None:
        """As linear layers: the given standard deviation, or 1/√(inputs)."""
        for weight in (self.gate_up_EDF, self.down_EFD):
            draw_normal(weight, weight.shape[1] ** -0.5 if self.std is None else self.std, generator)

    def forward(
        self,
        x_ND: Tensor,
        experts_NK: Tensor,
        weights_NK: Tensor,
        *,
        gate_up_EDF: Tensor | None = None,
        down_EFD: Tensor | None = None,
    ) -> Tensor:
        """Σ over each token's K experts of weight · expert(x), [N, D]. Deterministic: sorts and gathers only.

        `gate_up_EDF` and `down_EFD`, which adapters give, take the place of its own.
        """
        num_tokens, top_k = experts_NK.shape
        sorted_M, order_M = experts_NK.flatten().sort(stable=True)
        inverse_M = torch.empty_like(order_M).scatter_(0, order_M, torch.arange(len(order_M), device=order_M.device))
        every_E = torch.arange(len(self.gate_up_EDF), device=x_ND.device)
        ends_E = torch.searchsorted(sorted_M, every_E, right=True, out_int32=True)
        gate_up_EDF = self.gate_up_EDF if gate_up_EDF is None else gate_up_EDF
        down_EFD = self.down_EFD if down_EFD is None else down_EFD
        if torch.is_autocast_enabled(x_ND.device.type):  # grouped_mm is not on autocast's list
            dtype = torch.get_autocast_dtype(x_ND.device.type)
            x_ND, gate_up_EDF, down_EFD = x_ND.to(dtype), gate_up_EDF.to(dtype), down_EFD.to(dtype)
        x_MD: Tensor = _Dispatch.apply(x_ND, order_M, inverse_M, top_k)
        gate_MF, up_MF = _grouped_product(x_MD, gate_up_EDF, ends_E).chunk(2, dim=-1)
        y_MD = _grouped_product(F.silu(gate_MF) * up_MF, down_EFD, ends_E)
        unsorted_MD: Tensor = _Permute.apply(y_MD, inverse_M, order_M)
        y_NKD = unsorted_MD.view(num_tokens, top_k, -1)
        return (y_NKD * weights_NK.unsqueeze(-1).to(y_NKD.dtype)).sum(dim=1)


class MoE(nn.Module):
    """Routed and shared experts in the place of a feed-forward; no token is dropped."""

    def __init__(self, hidden_size: int, config: MoeConfig, std: float | None = None) -> None:
        super().__init__()
        self.router = Router(hidden_size, config)
        self.experts = Experts(hidden_size, config.num_experts, config.expert_size, std)
        self.shared: SwiGLU | None = None
        if config.num_shared_experts:
            self.shared = SwiGLU(hidden_size, config.num_shared_experts * config.expert_size)

    def forward(
        self, x_BTD: Tensor, valid_BT: Tensor | None = None, router_input_BTD: Tensor | None = None
    ) -> tuple[Tensor, RouterStats]:
        """[B, T, D] → the same, and the router's statistics; hand those to `record` once, outside of any
        checkpointed region, which runs twice. `valid_BT` False: padding, computed but not counted.
        `router_input_BTD`: what the router sees instead of the tokens themselves."""
        x_ND = x_BTD.flatten(0, 1)
        seen_ND = x_ND if router_input_BTD is None else router_input_BTD.flatten(0, 1)
        routing = self.router(seen_ND, None if valid_BT is None else valid_BT.flatten())
        y_BTD = self.experts(x_ND, routing.experts_NK, routing.weights_NK).view(x_BTD.shape)
        if self.shared is not None:
            y_BTD = y_BTD + self.shared(x_BTD)
        return y_BTD, routing.stats

    @torch.no_grad()
    def record(self, stats: RouterStats) -> None:
        """Add a pass's load to the step's counters (in training mode only)."""
        if self.training:
            self.router.load_E.add_(stats.load_E)

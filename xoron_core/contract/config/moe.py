"""Mixtures of experts, which several components have."""

from typing import Literal

from pydantic import Field, model_validator

from xoron_core.contract.config.section import Section


class MoeConfig(Section):
    """A mixture of experts: routed SwiGLU experts and shared ones that are always on."""

    num_experts: int = Field(8, ge=1, le=1024)
    """Routed experts in a layer."""
    top_k: int = Field(2, ge=1)
    """Routed experts that each token goes through."""
    num_shared_experts: int = Field(1, ge=0)
    """Experts that every token goes through (DeepSeek style)."""
    expert_size: int = Field(2048, ge=8)
    """Hidden width of one expert."""
    balance: Literal["loss_free", "aux_loss"] = "loss_free"
    """How load is kept even: a bias on the choice only (arXiv 2408.15664), or an auxiliary loss, which is of a whole
    micro-batch and therefore for a single process."""
    bias_update_rate: float = Field(1e-3, ge=0)
    """Step of the loss-free bias after each optimizer step."""
    aux_loss_weight: float = Field(0.02, ge=0)
    """Weight of the auxiliary loss where `balance` is `aux_loss`."""

    @model_validator(mode="after")
    def _top_k_fits(self) -> "MoeConfig":
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k {self.top_k} is more than num_experts {self.num_experts}; lower top_k")
        return self

"""Gated cross-attention that lets text attend to media again (Flamingo, arXiv 2204.14198).

Shapes: B batch, T tokens, M media states, D width of the language model, H heads, W width of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.model import FusionConfig, LanguageModelConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.norms import RMSNorm


class FusionLayer(Initialised):
    """x + tanh(gate) · attention(x, media); a gate at zero leaves the language model as it was."""

    def __init__(self, config: FusionConfig, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.initial_gate = config.initial_gate
        self.norm = RMSNorm(hidden_size, eps=eps)
        self.media_norm = RMSNorm(hidden_size, eps=eps)
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.kv_proj = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.gate = nn.Parameter(torch.empty(1))  # one element, not none: sharding wants an axis

    def init_own(self, generator: torch.Generator) -> None:
        """As far open as configured."""
        nn.init.constant_(self.gate, self.initial_gate)

    def forward(self, x_BTD: Tensor, media_BMD: Tensor, mask_B11M: Tensor) -> Tensor:
        """[B, T, D] → the same."""
        batch, tokens, width = x_BTD.shape
        q_BHTW = self.q_proj(self.norm(x_BTD)).view(batch, tokens, self.num_heads, -1).transpose(1, 2)
        kv_BM2HW = self.kv_proj(self.media_norm(media_BMD)).view(batch, -1, 2, self.num_heads, width // self.num_heads)
        k_BHMW, v_BHMW = kv_BM2HW.permute(2, 0, 3, 1, 4).unbind()
        out_BHTW = F.scaled_dot_product_attention(q_BHTW, k_BHMW, v_BHMW, mask_B11M)
        return x_BTD + self.gate.tanh() * self.o_proj(out_BHTW.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Fusion(Checkpointed):
    """The layers, spread evenly over the decoder's, the last after its last."""

    def __init__(self, config: FusionConfig, language: LanguageModelConfig) -> None:
        super().__init__()
        count, depth = config.num_layers, language.num_layers
        self.layers = nn.ModuleList(
            FusionLayer(config, language.hidden_size, language.rms_norm_eps) for _ in range(count)
        )
        self.layer_after = {-(-(index + 1) * depth // count) - 1: index for index in range(count)}
        """Decoder layer → the fusion layer that follows it."""


@dataclass(frozen=True)
class FusedMedia:
    """Media states that a pass of the decoder attends to, through these layers."""

    fusion: Fusion
    states_BMD: Tensor
    mask_BM: Tensor
    """True where there is a state; every row has one at least."""

    def follow(self, layer: int, x_BTD: Tensor) -> Tensor:
        """What follows decoder layer `layer`: a fusion layer, or nothing."""
        index = self.fusion.layer_after.get(layer)
        if index is None:
            return x_BTD
        seen_B11M = self.mask_BM[:, None, None, :]
        fused: Tensor = self.fusion.run_layer(self.fusion.layers[index], x_BTD, self.states_BMD, seen_B11M)
        return fused

"""Feed-forward Transformer blocks: self-attention and a convolutional feed-forward (FastSpeech, arXiv 1905.09263).

Shapes: B samples, T tokens or frames, D width, H heads, W width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.audio_decoder import AudioDecoderConfig
from xoron_core.model.initialise import Initialised
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.rope import Rotary, rotate
from xoron_core.model.speech.conformer import sequence_rotary


class MaskedConv(nn.Module):
    """A convolution that keeps the length and sees zeros beyond a sample's end, as beyond the tensor's."""

    def __init__(self, in_size: int, out_size: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_size, out_size, kernel_size, padding=kernel_size // 2)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D']; `mask_BT` is True within a sample."""
        return self.conv((x_BTD * mask_BT.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


class FftBlock(nn.Module):
    """Attention to all of a sample, then two convolutions, each normalised before and added after."""

    def __init__(self, config: AudioDecoderConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(hidden)
        self.qkv_proj = nn.Linear(hidden, 3 * hidden)
        self.o_proj = nn.Linear(hidden, hidden)
        self.conv_norm = nn.LayerNorm(hidden)
        self.conv = MaskedConv(hidden, config.feed_forward_size, config.conv_kernel_size)
        self.down_proj = nn.Linear(config.feed_forward_size, hidden)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor, rotary: Rotary) -> Tensor:
        """[B, T, D] → the same."""
        qkv_BTHW = self.qkv_proj(self.attention_norm(x_BTD)).unflatten(-1, (3 * self.num_heads, -1))
        q_BTHW, k_BTHW, v_BTHW = qkv_BTHW.chunk(3, dim=2)
        q_BHTW, k_BHTW = (rotate(x_BTHW, rotary).transpose(1, 2) for x_BTHW in (q_BTHW, k_BTHW))
        out_BHTW = F.scaled_dot_product_attention(q_BHTW, k_BHTW, v_BTHW.transpose(1, 2), mask_BT[:, None, None])
        x_BTD = x_BTD + self.o_proj(out_BHTW.transpose(1, 2).flatten(2))
        return x_BTD + self.down_proj(F.relu(self.conv(self.conv_norm(x_BTD), mask_BT)))  # type: ignore[no-any-return]


class FftStack(Checkpointed, Initialised):
    """Blocks one after the other, and a norm."""

    def __init__(self, config: AudioDecoderConfig, num_layers: int) -> None:
        super().__init__()
        self.head_width = config.hidden_size // config.num_heads
        self.layers = nn.ModuleList(FftBlock(config) for _ in range(num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def init_own(self, generator: torch.Generator) -> None:
        """Scale what writes into the residual stream by 1/√(2 · layers)."""
        factor = (2 * len(self.layers)) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(factor)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """[B, T, D] → the same; what lies beyond a sample's end means nothing."""
        rotary = sequence_rotary(x_BTD.shape[1], self.head_width, x_BTD.device)
        for layer in self.layers:
            x_BTD = self.run_layer(layer, x_BTD, mask_BT, rotary)
        return self.norm(x_BTD)  # type: ignore[no-any-return]

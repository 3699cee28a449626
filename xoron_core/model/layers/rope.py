"""Rotary positions: YaRN for text, two axes for image patches, three for those of clips.

Shapes: B batch, T tokens, H heads, R half the rotated width of a head. The first half of a head's width turns with
the second half (the convention of Llama and transformers, not the interleaved one).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from xoron_core.contract.config.model import RopeConfig
from xoron_core.model.initialise import Initialised


class Rotary(NamedTuple):
    """Cosines and sines of every token's angles; made once a forward pass and shared by its layers."""

    cos_BTR: Tensor
    sin_BTR: Tensor


def rotate(x_BTHW: Tensor, rotary: Rotary) -> Tensor:
    """Turn each head by its token's angles, in fp32; W = 2R."""
    cos_BT1R, sin_BT1R = rotary.cos_BTR.unsqueeze(-2), rotary.sin_BTR.unsqueeze(-2)
    first, second = x_BTHW.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos_BT1R - second * sin_BT1R, second * cos_BT1R + first * sin_BT1R), dim=-1)
    return turned.to(x_BTHW.dtype)


def yarn_frequencies(width: int, config: RopeConfig, max_position: int) -> tuple[Tensor, float]:
    """Angles a position for each of width/2 planes, and the factor on queries and keys (YaRN, arXiv 2309.00071).

    Planes that turn more than `beta_fast` times within the original length stay, those that turn less than
    `beta_slow` times are interpolated by max_position / original_max_position, those between are blended.
    """
    planes_R = torch.arange(0, width, 2, dtype=torch.float32) / width
    frequencies_R = 1.0 / config.theta**planes_R
    factor = max_position / config.original_max_position
    if factor <= 1:
        return frequencies_R, 1.0

    def plane_of(rotations: float) -> float:
        turns = config.original_max_position / (rotations * 2 * math.pi)
        return width * math.log(turns) / (2 * math.log(config.theta))

    low = max(math.floor(plane_of(config.beta_fast)), 0)
    high = min(math.ceil(plane_of(config.beta_slow)), width - 1)
    span = high - low if high != low else 0.001
    interpolated_R = ((torch.arange(width // 2, dtype=torch.float32) - low) / span).clamp(0, 1)
    scaled_R = frequencies_R / factor * interpolated_R + frequencies_R * (1 - interpolated_R)
    return scaled_R, 0.1 * math.log(factor) + 1.0


class YarnRope(Initialised):
    """Rotary angles of token positions; `attention_factor` squared belongs into the softmax scale."""

    frequencies_R: Tensor

    def __init__(self, width: int, config: RopeConfig, max_position: int) -> None:
        super().__init__()
        self.width = width
        self.config = config
        self.max_position = max_position
        with torch.device("cpu"):
            frequencies_R, self.attention_factor = yarn_frequencies(width, config, max_position)
        # not saved: it follows from the configuration, and init_own sets it after a construction on meta
        self.register_buffer("frequencies_R", torch.empty(width // 2), persistent=False)
        if not self.frequencies_R.is_meta:
            self.frequencies_R.copy_(frequencies_R)

    def init_own(self, generator: torch.Generator) -> None:
        """Set the frequencies again, which a construction on the meta device has lost."""
        self.frequencies_R.copy_(yarn_frequencies(self.width, self.config, self.max_position)[0])

    def forward(self, positions_BT: Tensor) -> Rotary:
        """Cosines and sines for positions given as integers, so that packed documents may restart at zero."""
        angles_BTR = positions_BT.unsqueeze(-1).float() * self.frequencies_R.float()
        return Rotary(angles_BTR.cos(), angles_BTR.sin())


def grid_rotary(height: int, width: int, head_width: int, device: torch.device, theta: float = 10_000.0) -> Rotary:
    """Two-dimensional RoPE of a patch grid in row order, [1, height·width, R]: half the planes turn with the row,
    half with the column. `head_width` is a multiple of 4."""
    planes = head_width // 4
    frequencies = theta ** -(torch.arange(planes, dtype=torch.float32, device=device) / planes)
    rows = torch.arange(height, device=device).repeat_interleave(width).unsqueeze(-1) * frequencies
    columns = torch.arange(width, device=device).repeat(height).unsqueeze(-1) * frequencies
    angles_1TR = torch.cat((rows, columns), dim=-1).unsqueeze(0)
    return Rotary(angles_1TR.cos(), angles_1TR.sin())


def grid_rotary_3d(
    num_frames: int, height: int, width: int, head_width: int, device: torch.device, theta: float = 10_000.0
) -> Rotary:
    """Three-dimensional RoPE of a clip's patches, frame after frame in row order, [1, frames·height·width, R]: a third
    of the planes turns with time, a third with the row, a third with the column.

    Of R planes that three do not divide, one left over goes to time, two go to row and column: these stay alike.
    `head_width` is even and at least 6; raises ValueError otherwise.
    """
    if head_width % 2 or head_width < 6:
        raise ValueError(f"a head of width {head_width} cannot hold three rotary axes; make it even and 6 at least")
    third, left = divmod(head_width // 2, 3)
    positions = torch.meshgrid(
        *(torch.arange(count, device=device) for count in (num_frames, height, width)), indexing="ij"
    )
    angles = []
    for position_THW, planes in zip(positions, (third + left % 2, third + left // 2, third + left // 2), strict=True):
        frequencies = theta ** -(torch.arange(planes, dtype=torch.float32, device=device) / planes)
        angles.append(position_THW.flatten().unsqueeze(-1) * frequencies)
    angles_1TR = torch.cat(angles, dim=-1).unsqueeze(0)
    return Rotary(angles_1TR.cos(), angles_1TR.sin())

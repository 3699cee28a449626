"""From a picture's patches to fewer tokens (TiTok, arXiv 2406.07550).

Shapes: B pictures, N patches, Q tokens, D width, R half the width of a head.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xoron_core.contract.config.vision import Grid, VisionEncoderConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, grid_rotary
from xoron_core.model.vision.dual_stream import DualStreamLayer
from xoron_core.model.vision.reading import EPS, ReadingLayer


class ImageCompressor(Initialised):
    """Learned queries read the patches; then tokens and patches attend to one another.

    Every query has a place on the patch grid, on a coarser grid of its own, and both sides of every attention are
    turned by 2D-RoPE.
    """

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__()
        self.patch_grid = config.grid
        self.grid = config.compressor.grid
        """Rows and columns of the tokens' places."""
        hidden, heads = config.hidden_size, config.compressor.num_heads
        self.head_width = hidden // heads
        self.queries_QD = nn.Parameter(torch.empty(config.compressor.num_tokens, hidden))
        self.reading = ReadingLayer(hidden, heads)
        num_layers = config.compressor.num_layers
        self.layers = nn.ModuleList(
            DualStreamLayer(hidden, heads, last=index == num_layers - 1) for index in range(num_layers)
        )
        self.norm = RMSNorm(hidden, eps=EPS)
        self.gradient_checkpointing = False

    def init_own(self, generator: torch.Generator) -> None:
        """Queries as large as what they read: one token can be told from another by what follows."""
        draw_normal(self.queries_QD, 1.0, generator)

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute each layer's activations in the backward pass, or stop doing so."""
        self.gradient_checkpointing = enabled

    def forward(self, patches_BND: Tensor) -> Tensor:
        """[B, N, D] → [B, Q, D]."""
        patch_rotary = grid_rotary(*self.patch_grid, self.head_width, patches_BND.device)
        places_Q = places_on_grid(self.grid, self.patch_grid, patches_BND.device)
        rotary = Rotary(patch_rotary.cos_BTR[:, places_Q], patch_rotary.sin_BTR[:, places_Q])
        x_BQD = self.queries_QD.expand(len(patches_BND), -1, -1)
        x_BQD = self._run(self.reading, x_BQD, patches_BND, rotary, patch_rotary)
        for layer in self.layers:
            x_BQD, patches_BND = self._run(layer, x_BQD, patches_BND, rotary, patch_rotary)
        tokens_BQD: Tensor = self.norm(x_BQD)
        return tokens_BQD

    def _run(self, layer: nn.Module, *inputs: Tensor | Rotary) -> Tensor:
        if self.gradient_checkpointing and self.training:
            return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
        return layer(*inputs)  # type: ignore[no-any-return]


def places_on_grid(grid: Grid, patch_grid: Grid, device: torch.device) -> Tensor:
    """The patch in the middle of each cell, where `grid` divides the picture into cells; [cells], in row order."""
    rows, columns = (
        ((torch.arange(cells, device=device) + 0.5) * (patches / cells)).long()
        for cells, patches in zip(grid, patch_grid, strict=True)
    )
    return (rows.unsqueeze(1) * patch_grid[1] + columns).flatten()

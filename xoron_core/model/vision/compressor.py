"""From a picture's patches to fewer tokens (TiTok, arXiv 2406.07550).

Shapes: B pictures, N patches, Q tokens, D width, R half the width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.vision import Grid, ImageCompressorConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.layers.rope import Rotary, grid_rotary
from xoron_core.model.vision.dual_stream import DualStreamLayer
from xoron_core.model.vision.reading import EPS, QUERY_STD, ReadingLayer, scale_branches


class ImageCompressor(Checkpointed, Initialised):
    """Learned queries read the patches; then tokens and patches attend to one another.

    Every query has a cell of a grid that is coarser than that of the patches. It starts from the mean of its cell's
    patches (as in TokenPacker, arXiv 2407.02392), so that a picture gets through before attention has learned where
    to look, and stands in its middle: both sides of every attention are turned by 2D-RoPE.
    """

    def __init__(self, config: ImageCompressorConfig, hidden_size: int, patch_grid: Grid) -> None:
        super().__init__()
        self.patch_grid = patch_grid
        self.grid = config.grid
        """Rows and columns of the tokens' places."""
        heads, last = config.num_heads, config.num_layers - 1
        self.head_width = hidden_size // heads
        self.queries_QD = nn.Parameter(torch.empty(config.num_tokens, hidden_size))
        self.reading = ReadingLayer(hidden_size, heads)
        self.layers = nn.ModuleList(
            DualStreamLayer(hidden_size, heads, last=index == last) for index in range(config.num_layers)
        )
        self.norm = RMSNorm(hidden_size, eps=EPS)

    def init_own(self, generator: torch.Generator) -> None:
        """Small queries, small residual branches."""
        draw_normal(self.queries_QD, QUERY_STD, generator)
        scale_branches(self, 1 + len(self.layers))

    def forward(self, patches_BND: Tensor) -> Tensor:
        """[B, N, D] → [B, Q, D]."""
        patch_rotary = grid_rotary(*self.patch_grid, self.head_width, patches_BND.device)
        places_Q = places_on_grid(self.grid, self.patch_grid, patches_BND.device)
        rotary = Rotary(patch_rotary.cos_BTR[:, places_Q], patch_rotary.sin_BTR[:, places_Q])
        x_BQD = self.queries_QD + cell_means(patches_BND, self.patch_grid, self.grid)
        x_BQD = self.run_layer(self.reading, x_BQD, patches_BND, rotary, patch_rotary)
        for layer in self.layers:
            x_BQD, patches_BND = self.run_layer(layer, x_BQD, patches_BND, rotary, patch_rotary)
        tokens_BQD: Tensor = self.norm(x_BQD)
        return tokens_BQD


def cell_means(patches_BND: Tensor, patch_grid: Grid, grid: Grid) -> Tensor:
    """Means of the patches in each cell of `grid`, [B, cells, D]; cells that share a patch both count it."""
    patches_BDRC = patches_BND.transpose(1, 2).unflatten(2, patch_grid)  # type: ignore[no-untyped-call]
    return F.adaptive_avg_pool2d(patches_BDRC, grid).flatten(2).transpose(1, 2)


def places_on_grid(grid: Grid, patch_grid: Grid, device: torch.device) -> Tensor:
    """The patch in the middle of each cell, where `grid` divides the picture into cells; [cells], in row order."""
    rows, columns = (
        ((torch.arange(cells, device=device) + 0.5) * (patches / cells)).long()
        for cells, patches in zip(grid, patch_grid, strict=True)
    )
    return (rows.unsqueeze(1) * patch_grid[1] + columns).flatten()

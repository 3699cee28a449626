"""From an encoder's tokens to embeddings of the language model: resampled, one by one, or merged with neighbours.

Shapes: B batch, N tokens, M embeddings, E the encoder's width, D the language model's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.vision import Grid, ProjectorConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.vision.reading import EPS, QUERY_STD, ReadingLayer, scale_branches


class PerceiverResampler(Checkpointed, Initialised):
    """Learned latents read the tokens and themselves, layer after layer (arXiv 2204.14198).

    Each starts from the mean of its stretch of the tokens, so that media get through before attention has learned
    where to look.
    """

    def __init__(self, config: ProjectorConfig, input_size: int, output_size: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(input_size, output_size)
        self.latents_MD = nn.Parameter(torch.empty(config.num_latents, output_size))
        self.layers = nn.ModuleList(ReadingLayer(output_size, config.num_heads) for _ in range(config.num_layers))

    def init_own(self, generator: torch.Generator) -> None:
        """Small latents, small residual branches."""
        draw_normal(self.latents_MD, QUERY_STD, generator)
        scale_branches(self, len(self.layers))

    def forward(self, x_BNE: Tensor) -> Tensor:
        """[B, N, E] → [B, M, D]."""
        x_BND = self.input_proj(x_BNE)
        means_BMD = F.adaptive_avg_pool1d(x_BND.transpose(1, 2), len(self.latents_MD)).transpose(1, 2)
        latents_BMD = self.latents_MD + means_BMD
        for layer in self.layers:
            memory_BSD = torch.cat((x_BND, latents_BMD), dim=1)
            latents_BMD = self.run_layer(layer, latents_BMD, memory_BSD)
        return latents_BMD


class TokenMlp(nn.Module):
    """Each token through a network of two layers."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(input_size, 2 * output_size)
        self.down_proj = nn.Linear(2 * output_size, output_size)

    def forward(self, x_BNE: Tensor) -> Tensor:
        """[B, N, E] → [B, N, D]."""
        return self.down_proj(F.gelu(self.up_proj(x_BNE)))  # type: ignore[no-any-return]


class SpatialMerge(nn.Module):
    """Each 2 × 2 neighbours side by side through a `TokenMlp`; an odd side is filled up with zeros."""

    def __init__(self, input_size: int, output_size: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.mlp = TokenMlp(4 * input_size, output_size)

    def forward(self, x_BNE: Tensor) -> Tensor:
        """[B, N, E] → [B, M, D], N a number of grids in succession."""
        rows, columns = self.grid
        grids_GERC = x_BNE.reshape(-1, rows, columns, x_BNE.shape[-1]).permute(0, 3, 1, 2)
        filled_GERC = F.pad(grids_GERC, (0, columns % 2, 0, rows % 2))
        merged_GNE = F.pixel_unshuffle(filled_GERC, 2).flatten(2).transpose(1, 2)
        return self.mlp(merged_GNE.reshape(len(x_BNE), -1, merged_GNE.shape[-1]))  # type: ignore[no-any-return]


class Projector(nn.Module):
    """Encoder tokens → embeddings that are as large as those of tokens.

    `grid`: how the tokens lie; several grids may follow one another (frames). `output_scale`: root mean square of the
    output at first. The learned scale behind the norm is relative to it: at its size a step of Adam would upset it.
    """

    def __init__(
        self, config: ProjectorConfig, input_size: int, output_size: int, grid: Grid, output_scale: float
    ) -> None:
        super().__init__()
        self.output_scale = output_scale
        self.network: PerceiverResampler | TokenMlp | SpatialMerge
        match config.kind:
            case "perceiver":
                self.network = PerceiverResampler(config, input_size, output_size)
            case "mlp":
                self.network = TokenMlp(input_size, output_size)
            case "spatial":
                self.network = SpatialMerge(input_size, output_size, grid)
        self.norm = RMSNorm(output_size, eps=EPS)

    def forward(self, x_BNE: Tensor) -> Tensor:
        """[B, N, E] → [B, M, D]."""
        normed_BMD: Tensor = self.norm(self.network(x_BNE))
        return normed_BMD * self.output_scale

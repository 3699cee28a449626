"""Seeing: the image backbone, the compressor of its patches, and the projectors into the language model."""

from math import isqrt
from typing import Literal

from pydantic import Field, model_validator

from xoron_core.contract.config.section import Section

Grid = tuple[int, int]
"""Rows and columns."""


def nearly_square(num_cells: int) -> Grid:
    """The most square grid of exactly that many cells, not higher than wide (256: 16 × 16, 30: 5 × 6)."""
    rows = next(rows for rows in range(isqrt(num_cells), 0, -1) if num_cells % rows == 0)
    return rows, num_cells // rows


class ImageCompressorConfig(Section):
    """From a picture's patches to fewer tokens: learned queries (TiTok, arXiv 2406.07550), then dual-stream layers.

    Apart from the vision encoder, since video goes on from the patches themselves.
    """

    num_tokens: int = Field(256, ge=1)
    """Tokens that a picture becomes."""
    num_layers: int = Field(2, ge=1)
    """Dual-stream layers, in which tokens and patches attend to one another."""
    num_heads: int = Field(16, ge=1)
    """Attention heads; four times as many divide the vision encoder's width."""

    @property
    def grid(self) -> Grid:
        """How the tokens' places lie on the picture."""
        return nearly_square(self.num_tokens)


class VisionEncoderConfig(Section):
    """The image backbone, a SigLIP vision tower; video uses it frame by frame.

    Default sizes are those of google/siglip-so400m-patch14-384.
    """

    pretrained: str | None = "google/siglip-so400m-patch14-384"
    """Weights to begin with: a folder or a name on the Hugging Face hub, of these sizes; null: from the seed."""
    image_size: int = Field(384, ge=4)
    """Side of the square pictures, in pixels."""
    patch_size: int = Field(14, ge=1)
    """Side of a patch, in pixels; what no whole patch fills is not seen."""
    pixel_mean: float = Field(0.5, ge=0, le=1)
    """Mean that is taken from pixels between 0 and 1: that of the pretrained weights, else of the pictures."""
    pixel_std: float = Field(0.5, gt=0, le=1)
    """Standard deviation that pixels are divided by then."""
    hidden_size: int = Field(1152, ge=8)
    """Width of the patches."""
    num_layers: int = Field(27, ge=1)
    """Layers of the backbone."""
    num_heads: int = Field(16, ge=1)
    """Attention heads."""
    intermediate_size: int = Field(4304, ge=8)
    """Hidden width of the feed-forward."""

    @property
    def grid(self) -> Grid:
        """How the patches lie on the picture."""
        side = self.image_size // self.patch_size
        return side, side

    @model_validator(mode="after")
    def _sizes_fit(self) -> "VisionEncoderConfig":
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size {self.patch_size} is more than image_size {self.image_size}; lower it")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; change one of them"
            )
        return self


class ProjectorConfig(Section):
    """From an encoder's tokens to embeddings that stand among those of the language model."""

    kind: Literal["perceiver", "mlp", "spatial"] = "perceiver"
    """`perceiver`: learned latents read all tokens (arXiv 2204.14198); `mlp`: each token on its own; `spatial`: each
    2 × 2 neighbours on the grid become one."""
    num_latents: int = Field(64, ge=1)
    """Embeddings that a `perceiver` makes."""
    num_layers: int = Field(2, ge=1)
    """Layers of a `perceiver`."""
    num_heads: int = Field(16, ge=1)
    """Attention heads of a `perceiver`; a divisor of the language model's width."""

    def check(self, field: str, output_size: int) -> None:
        """See that it fits a language model of that width; `field` is where it stands.

        Raises: ValueError naming field, value and cure.
        """
        if self.kind == "perceiver" and output_size % self.num_heads:
            raise ValueError(
                f"{field}.num_heads {self.num_heads} is no divisor of model.language.hidden_size {output_size}; "
                "change one of them"
            )

    def num_outputs(self, num_inputs: int, grid: Grid) -> int:
        """Embeddings made of that many tokens, which lie on one or several grids in succession.

        Raises: ValueError when `spatial` is to merge tokens that fill no whole number of grids.
        """
        if self.kind == "perceiver":
            return self.num_latents
        if self.kind == "mlp":
            return num_inputs
        rows, columns = grid
        if num_inputs % (rows * columns):
            raise ValueError(f"{num_inputs} tokens fill no whole number of {rows} × {columns} grids")
        return num_inputs // (rows * columns) * -(-rows // 2) * -(-columns // 2)

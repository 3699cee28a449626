"""Image generation: flow matching in the autoencoder's latent space."""

from typing import ClassVar

from pydantic import Field

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.modalities.base import MetricInfo, ModalityInfo
from xoron_core.contract.modalities.flow_matching import FlowMatchingConfig, check_size


class ImageGenerationConfig(FlowMatchingConfig):
    """Captions to pictures."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="image_generation",
        label="Image generation",
        categories=("image_generation",),
        metrics=(
            MetricInfo(name="image_generation/loss", label="Flow loss", unit="MSE"),
            MetricInfo(
                name="image_generation/shuffled_loss", label="With another's caption", unit="MSE", better="neither"
            ),
        ),
    )

    image_size: int = Field(256, ge=16, multiple_of=8)
    """Side of the square pictures, in pixels."""

    def check(self, model: XoronConfig) -> None:
        """Patches fill the latents."""
        check_size(
            "modalities.image_generation.image_size",
            self.image_size,
            "model.image_generator",
            model.image_generator.patch_size,
        )

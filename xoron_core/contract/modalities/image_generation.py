"""Image generation: flow matching in the autoencoder's latent space."""

from typing import ClassVar

from pydantic import Field

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.modalities.base import MetricInfo, ModalityConfig, ModalityInfo


class ImageGenerationConfig(ModalityConfig):
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

    loss_weight: float = Field(0.1, ge=0)
    """Factor of its loss in the objective."""
    image_size: int = Field(256, ge=16, multiple_of=8)
    """Side of the square pictures, in pixels."""
    max_prompt_tokens: int = Field(128, ge=2)
    """Tokens of a caption; what is longer is cut."""
    cfg_dropout_rate: float = Field(0.1, ge=0, le=1)
    """Share of captions that are dropped, so that guidance has an unconditional model."""
    sample_prompts: tuple[str, ...] = ()
    """Captions of which samples are made."""
    guidance_scale: float = Field(7.5, ge=0)
    """Strength of classifier-free guidance in samples."""
    sampling_steps: int = Field(50, ge=1)
    """Euler steps of a sample."""

    def check(self, model: XoronConfig) -> None:
        """Patches fill the latents."""
        patch = 8 * model.image_generator.patch_size
        if self.image_size % patch:
            raise ValueError(
                f"modalities.image_generation.image_size {self.image_size} is not a multiple of {patch} "
                "(8 × model.image_generator.patch_size); change one of them"
            )

"""What modalities have in common that generate by flow matching from a caption."""

from pydantic import Field

from xoron_core.contract.modalities.base import ModalityConfig


class FlowMatchingConfig(ModalityConfig):
    """Options of image and video generation."""

    loss_weight: float = Field(0.1, ge=0)
    """Factor of its loss in the objective."""
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


def check_size(field: str, size: int, generator: str, patch_size: int) -> None:
    """See that patches fill the latents of a picture.

    Raises: ValueError naming field, value and cure.
    """
    patch = 8 * patch_size
    if size % patch:
        raise ValueError(
            f"{field} {size} is not a multiple of {patch} (8 × {generator}.patch_size); change one of them"
        )

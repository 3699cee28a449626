"""Video generation: flow matching in the autoencoder's latent space, frame by frame."""

from typing import ClassVar

from pydantic import Field

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.modalities.base import MetricInfo, ModalityInfo
from xoron_core.contract.modalities.flow_matching import FlowMatchingConfig, check_size


class VideoGenerationConfig(FlowMatchingConfig):
    """Captions, and first frames, to clips."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="video_generation",
        label="Video generation",
        categories=("video_generation",),
        metrics=(
            MetricInfo(name="video_generation/loss", label="Flow loss", unit="MSE"),
            MetricInfo(name="video_generation/temporal_loss", label="Temporal consistency", unit="MSE"),
            MetricInfo(name="video_generation/first_frame_loss", label="Flow loss, first frame given", unit="MSE"),
            MetricInfo(
                name="video_generation/shuffled_loss", label="With another's caption", unit="MSE", better="neither"
            ),
        ),
    )

    video_size: int = Field(256, ge=16, multiple_of=8)
    """Side of the square frames, in pixels."""
    num_frames: int = Field(16, ge=2, le=256)
    """Frames of a clip, spread evenly over its time."""
    first_frame_rate: float = Field(0.5, ge=0, le=1)
    """Share of clips whose first frame is given and the others made from it."""
    temporal_loss_weight: float = Field(0.01, ge=0)
    """Weight of temporal consistency beside the flow loss."""
    sample_first_frames: int = Field(1, ge=0)
    """Held-out clips of which a sample is made from caption and first frame."""

    def check(self, model: XoronConfig) -> None:
        """Patches fill the latents."""
        check_size(
            "modalities.video_generation.video_size",
            self.video_size,
            "model.video_generator",
            model.video_generator.patch_size,
        )

"""Video understanding: questions about clips, answered in text."""

from typing import ClassVar

from pydantic import Field

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.modalities.base import MetricInfo, ModalityInfo
from xoron_core.contract.modalities.media_text import MediaTextConfig


class VideoUnderstandingConfig(MediaTextConfig):
    """Clips and questions to answers."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="video_understanding",
        label="Video understanding",
        categories=("video",),
        metrics=(
            MetricInfo(name="video_understanding/loss", label="Answers' cross-entropy", unit="nats/token"),
            MetricInfo(name="video_understanding/perplexity", label="Answers' perplexity"),
            MetricInfo(name="video_understanding/exact", label="Answers exactly right", better="higher"),
            MetricInfo(
                name="video_understanding/shuffled_loss",
                label="With another's clip",
                unit="nats/token",
                better="neither",
            ),
        ),
    )

    num_frames: int = Field(8, ge=2)
    """Frames that a clip is seen by, spread evenly over its time."""

    def check(self, model: XoronConfig) -> None:
        """Heads divide widths."""
        super().check(model)
        model.video_encoder.check(model.vision_encoder.hidden_size)
        model.video_projector.check("model.video_projector", model.language.hidden_size)

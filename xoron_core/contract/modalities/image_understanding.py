"""Image understanding: questions about pictures, answered in text."""

from typing import ClassVar

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.modalities.base import MetricInfo, ModalityInfo
from xoron_core.contract.modalities.media_text import MediaTextConfig


class ImageUnderstandingConfig(MediaTextConfig):
    """Pictures and questions to answers."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="image_understanding",
        label="Image understanding",
        categories=("vision",),
        metrics=(
            MetricInfo(name="image_understanding/loss", label="Answers' cross-entropy", unit="nats/token"),
            MetricInfo(name="image_understanding/perplexity", label="Answers' perplexity"),
            MetricInfo(name="image_understanding/exact", label="Answers exactly right", better="higher"),
            MetricInfo(
                name="image_understanding/shuffled_loss",
                label="With another's picture",
                unit="nats/token",
                better="neither",
            ),
        ),
    )

    def check(self, model: XoronConfig) -> None:
        """Heads divide widths."""
        super().check(model)
        width, heads = model.vision_encoder.hidden_size, model.image_compressor.num_heads
        if width % (4 * heads):
            raise ValueError(
                f"model.vision_encoder.hidden_size {width} is not a multiple of 4 × model.image_compressor.num_heads "
                f"{heads} (two rotary axes share a head); change one of them"
            )
        model.image_projector.check("model.image_projector", model.language.hidden_size)

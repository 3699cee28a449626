"""What modalities have in common that answer in text about media."""

from pydantic import Field

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.modalities.base import ModalityConfig


class MediaTextConfig(ModalityConfig):
    """Options of understanding and recognition."""

    max_answer_tokens: int = Field(256, ge=1)
    """Longest answer: longer ones of a source are unreadable rows, and generation ends there."""
    sample_count: int = Field(4, ge=0)
    """Held-out rows that samples are made of."""

    def check(self, model: XoronConfig) -> None:
        """The fusion layers fit the decoder."""
        model.fusion.check(model.language)

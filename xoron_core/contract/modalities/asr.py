"""Speech recognition: a transcript after the sound, and bytes along it (CTC)."""

from typing import ClassVar, Literal

from pydantic import Field

from xoron_core.contract.modalities.base import MetricInfo, ModalityInfo
from xoron_core.contract.modalities.media_text import MediaTextConfig


class AsrConfig(MediaTextConfig):
    """Speech to text."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="asr",
        label="Speech recognition",
        categories=("voice_asr",),
        metrics=(
            MetricInfo(name="asr/loss", label="Transcripts' cross-entropy", unit="nats/token"),
            MetricInfo(name="asr/ctc_loss", label="CTC loss", unit="nats/byte"),
            MetricInfo(name="asr/wer", label="Word errors", unit="share"),
            MetricInfo(name="asr/cer", label="Character errors", unit="share"),
            MetricInfo(name="asr/shuffled_loss", label="With another's sound", unit="nats/token", better="neither"),
        ),
    )

    loss_weight: float = Field(0.1, ge=0)
    """Factor of its loss in the objective."""
    asr_loss: Literal["cross_entropy", "ctc", "both"] = "both"
    """What is learned: transcripts by the decoder, bytes by the encoder's own head, or both. With `ctc` alone the
    headline is the CTC loss, and transcripts come from that head."""
    ctc_loss_weight: float = Field(0.3, ge=0)
    """Factor of the CTC loss beside the cross-entropy, where both are learned."""
    max_audio_s: float = Field(30.0, gt=0)
    """Longest sound, in seconds; a row with a longer one is unreadable."""

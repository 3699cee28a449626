"""Every modality there is; adding one is a line here."""

from typing import Any

from xoron_core.contract.config.run import RunConfig
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.asr.modality import Asr
from xoron_core.modalities.base import Modality
from xoron_core.modalities.image_generation.modality import ImageGeneration
from xoron_core.modalities.image_understanding.modality import ImageUnderstanding
from xoron_core.modalities.text.modality import Text
from xoron_core.modalities.tts.modality import Tts
from xoron_core.modalities.video_generation.modality import VideoGeneration
from xoron_core.modalities.video_understanding.modality import VideoUnderstanding

MODALITIES: tuple[type[Modality[Any, Any]], ...] = (
    Text,
    ImageUnderstanding,
    ImageGeneration,
    VideoUnderstanding,
    VideoGeneration,
    Asr,
    Tts,
)


def enabled_modalities(config: RunConfig, tokenizer: Tokenizer) -> dict[str, Modality[Any, Any]]:
    """Those that the configuration gives a share of the mix, by name."""
    enabled = config.modality_weights()
    return {cls.name: cls(config, tokenizer) for cls in MODALITIES if cls.name in enabled}

"""The light half of every modality: its configuration, its label, the names of its metrics. No torch.

Adding a modality is a module here, a field in `ModalitiesConfig`, a folder in `xoron_core/modalities/` and a line in
its registry.
"""

from pydantic import Field

from xoron_core.contract.config.section import Section
from xoron_core.contract.modalities.asr import AsrConfig
from xoron_core.contract.modalities.base import ModalityConfig, ModalityInfo
from xoron_core.contract.modalities.image_generation import ImageGenerationConfig
from xoron_core.contract.modalities.image_understanding import ImageUnderstandingConfig
from xoron_core.contract.modalities.text import TextConfig
from xoron_core.contract.modalities.tts import TtsConfig
from xoron_core.contract.modalities.video_generation import VideoGenerationConfig
from xoron_core.contract.modalities.video_understanding import VideoUnderstandingConfig


class ModalitiesConfig(Section):
    """What is trained on, and in what shares."""

    text: TextConfig = Field(default_factory=TextConfig)
    image_understanding: ImageUnderstandingConfig = Field(default_factory=ImageUnderstandingConfig)
    image_generation: ImageGenerationConfig = Field(default_factory=ImageGenerationConfig)
    video_understanding: VideoUnderstandingConfig = Field(default_factory=VideoUnderstandingConfig)
    video_generation: VideoGenerationConfig = Field(default_factory=VideoGenerationConfig)
    asr: AsrConfig = Field(default_factory=AsrConfig)
    tts: TtsConfig = Field(default_factory=TtsConfig)

    def get(self, name: str) -> ModalityConfig:
        """The configuration of one modality.

        Raises: KeyError for a name that no field has.
        """
        config: ModalityConfig = dict(self)[name]
        return config


def modality_infos() -> dict[str, ModalityInfo]:
    """Label, categories and metric names of every modality, in the order of the fields."""
    models = (field.annotation for field in ModalitiesConfig.model_fields.values())
    infos = [model.info for model in models if isinstance(model, type) and issubclass(model, ModalityConfig)]
    return {info.name: info for info in infos}

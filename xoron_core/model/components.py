"""The components that a model can have: how each is built, and which others it works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from xoron_core.contract.config.model import XoronConfig
from xoron_core.model.autoencoder import Autoencoder, AutoencoderConfig
from xoron_core.model.fusion import Fusion
from xoron_core.model.image_generator import ImageGenerator
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.video_generator import VideoGenerator
from xoron_core.model.vision.compressor import ImageCompressor
from xoron_core.model.vision.encoder import VisionEncoder
from xoron_core.model.vision.projectors import Projector


@dataclass(frozen=True)
class Sizes:
    """What the components are built from."""

    config: XoronConfig
    vocab_size: int
    autoencoder: AutoencoderConfig


@dataclass(frozen=True)
class Component:
    """One component; `needs` names those it cannot work without."""

    build: Callable[[Sizes], nn.Module]
    needs: frozenset[str] = frozenset()


def _image_generator(sizes: Sizes) -> ImageGenerator:
    config = sizes.config
    return ImageGenerator(config.image_generator, config.language.hidden_size, sizes.autoencoder.latent_channels)


def _video_generator(sizes: Sizes) -> VideoGenerator:
    config = sizes.config
    return VideoGenerator(config.video_generator, config.language.hidden_size, sizes.autoencoder.latent_channels)


def _image_compressor(sizes: Sizes) -> ImageCompressor:
    vision = sizes.config.vision_encoder
    return ImageCompressor(sizes.config.image_compressor, vision.hidden_size, vision.grid)


def _image_projector(sizes: Sizes) -> Projector:
    config, language = sizes.config, sizes.config.language
    return Projector(
        config.image_projector,
        config.vision_encoder.hidden_size,
        language.hidden_size,
        config.image_compressor.grid,
        language.initializer_range,
    )


COMPONENTS: Mapping[str, Component] = MappingProxyType(
    {
        "llm": Component(lambda sizes: LanguageModel(sizes.config.language, sizes.vocab_size)),
        "fusion": Component(lambda sizes: Fusion(sizes.config.fusion, sizes.config.language), frozenset({"llm"})),
        "autoencoder": Component(lambda sizes: Autoencoder(sizes.autoencoder)),
        "vision_encoder": Component(lambda sizes: VisionEncoder(sizes.config.vision_encoder)),
        "image_compressor": Component(_image_compressor, frozenset({"vision_encoder"})),
        "image_projector": Component(_image_projector, frozenset({"image_compressor", "llm"})),
        "generator": Component(_image_generator, frozenset({"llm", "autoencoder"})),
        "video_generator": Component(_video_generator, frozenset({"llm", "autoencoder"})),
    }
)
"""In the order in which they are built."""

"""The components that a model can have: how each is built, and which others it works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.config.vision import Grid, ProjectorConfig
from xoron_core.model.autoencoder import Autoencoder, AutoencoderConfig
from xoron_core.model.fusion import Fusion
from xoron_core.model.image_generator import ImageGenerator
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.speech.audio_decoder import AudioDecoder
from xoron_core.model.speech.audio_encoder import AudioEncoder, samples_per_frame
from xoron_core.model.speech.audio_projector import AudioProjector
from xoron_core.model.speech.ctc import CtcHead
from xoron_core.model.speech.mel import HOP
from xoron_core.model.speech.speaker_encoder import SpeakerEncoder
from xoron_core.model.speech.waveform_decoder import WaveformDecoder
from xoron_core.model.video_generator import VideoGenerator
from xoron_core.model.vision.compressor import ImageCompressor
from xoron_core.model.vision.encoder import VisionEncoder
from xoron_core.model.vision.projectors import Projector
from xoron_core.model.vision.video_encoder import VideoEncoder


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


def _video_encoder(sizes: Sizes) -> VideoEncoder:
    vision = sizes.config.vision_encoder
    return VideoEncoder(sizes.config.video_encoder, vision.hidden_size, vision.grid)


def _projector(sizes: Sizes, projector: ProjectorConfig, grid: Grid) -> Projector:
    """`grid`: how the encoder's tokens lie."""
    vision, language = sizes.config.vision_encoder, sizes.config.language
    return Projector(projector, vision.hidden_size, language.hidden_size, grid, language.initializer_range)


def _image_projector(sizes: Sizes) -> Projector:
    return _projector(sizes, sizes.config.image_projector, sizes.config.image_compressor.grid)


def _video_projector(sizes: Sizes) -> Projector:
    return _projector(sizes, sizes.config.video_projector, sizes.config.vision_encoder.grid)


def _audio_projector(sizes: Sizes) -> AudioProjector:
    return AudioProjector(sizes.config.audio_encoder, sizes.config.language.hidden_size)


def _audio_decoder(sizes: Sizes) -> AudioDecoder:
    config = sizes.config
    return AudioDecoder(
        config.audio_decoder,
        text_size=config.language.hidden_size,
        audio_size=config.audio_encoder.hidden_size,
        speaker_size=config.speaker_encoder.embedding_size,
        features_per_frame=HOP // samples_per_frame(config.audio_encoder),
    )


COMPONENTS: Mapping[str, Component] = MappingProxyType(
    {
        "llm": Component(lambda sizes: LanguageModel(sizes.config.language, sizes.vocab_size)),
        "fusion": Component(lambda sizes: Fusion(sizes.config.fusion, sizes.config.language), frozenset({"llm"})),
        "autoencoder": Component(lambda sizes: Autoencoder(sizes.autoencoder)),
        "vision_encoder": Component(lambda sizes: VisionEncoder(sizes.config.vision_encoder)),
        "image_compressor": Component(_image_compressor, frozenset({"vision_encoder"})),
        "image_projector": Component(_image_projector, frozenset({"image_compressor", "llm"})),
        "video_encoder": Component(_video_encoder, frozenset({"vision_encoder"})),
        "video_projector": Component(_video_projector, frozenset({"video_encoder", "llm"})),
        "audio_encoder": Component(lambda sizes: AudioEncoder(sizes.config.audio_encoder)),
        "audio_projector": Component(_audio_projector, frozenset({"audio_encoder", "llm"})),
        "ctc_head": Component(
            lambda sizes: CtcHead(sizes.config.audio_encoder.hidden_size), frozenset({"audio_encoder"})
        ),
        "speaker_encoder": Component(lambda sizes: SpeakerEncoder(sizes.config.speaker_encoder)),
        "audio_decoder": Component(_audio_decoder, frozenset({"llm", "audio_encoder", "speaker_encoder"})),
        "waveform_decoder": Component(lambda sizes: WaveformDecoder(sizes.config.waveform_decoder)),
        "generator": Component(_image_generator, frozenset({"llm", "autoencoder"})),
        "video_generator": Component(_video_generator, frozenset({"llm", "autoencoder"})),
    }
)
"""In the order in which they are built."""

"""The architecture: what is built, and how large. Defaults are those of the `base` preset."""

from typing import Literal

from pydantic import Field, model_validator

from xoron_core.contract.config.audio_decoder import AudioDecoderConfig, SpeakerEncoderConfig
from xoron_core.contract.config.audio_encoder import AudioEncoderConfig
from xoron_core.contract.config.generators import ImageGeneratorConfig, VideoGeneratorConfig
from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.section import Section
from xoron_core.contract.config.video_encoder import VideoEncoderConfig
from xoron_core.contract.config.vision import ImageCompressorConfig, ProjectorConfig, VisionEncoderConfig
from xoron_core.contract.config.waveform_decoder import WaveformDecoderConfig


class RopeConfig(Section):
    """Rotary positions with YaRN scaling (arXiv 2309.00071)."""

    theta: float = Field(500_000.0, gt=1)
    """Base of the rotary frequencies."""
    original_max_position: int = Field(8192, ge=1)
    """Length the frequencies were made for; beyond it they are scaled."""
    beta_fast: float = Field(32.0, gt=0)
    """Rotations above which a frequency is left as it is."""
    beta_slow: float = Field(1.0, gt=0)
    """Rotations below which a frequency is interpolated in full."""


class LanguageModelConfig(Section):
    """The decoder."""

    hidden_size: int = Field(1024, ge=8)
    """Width of the residual stream."""
    num_layers: int = Field(12, ge=1)
    """Decoder layers."""
    num_heads: int = Field(16, ge=1)
    """Query heads."""
    attention: Literal["mla", "gqa"] = "mla"
    """Multi-head latent attention (DeepSeek-V2) or grouped-query attention."""
    num_kv_heads: int = Field(4, ge=1)
    """Key and value heads of grouped-query attention."""
    head_dim: int = Field(64, ge=2, multiple_of=2)
    """Width of a head of grouped-query attention."""
    kv_lora_rank: int = Field(512, ge=1)
    """Width of the compressed keys and values of latent attention."""
    qk_nope_head_dim: int = Field(32, ge=1)
    """Width of a latent-attention head without position."""
    qk_rope_head_dim: int = Field(32, ge=2, multiple_of=2)
    """Width of a latent-attention head with rotary position."""
    v_head_dim: int = Field(64, ge=1)
    """Width of a latent-attention value head."""
    intermediate_size: int = Field(2048, ge=8)
    """Hidden width of the feed-forward of layers without experts."""
    moe_every: int = Field(2, ge=0)
    """Every n-th layer has experts (2: layers 1, 3, 5, …); 0: none has."""
    moe: MoeConfig = MoeConfig()
    """Experts of those layers."""
    rope: RopeConfig = RopeConfig()
    """Rotary positions."""
    max_position_embeddings: int = Field(131_072, ge=1)
    """Longest sequence."""
    sliding_window: int | None = Field(4096, ge=1)
    """How many positions back a token sees; null: all."""
    rms_norm_eps: float = Field(1e-6, gt=0)
    """Added to the mean square in RMSNorm."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of initial weights."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "LanguageModelConfig":
        if self.attention == "gqa" and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; change one of them"
            )
        return self


class FusionConfig(Section):
    """Gated cross-attention that lets text attend to media again."""

    num_layers: int = Field(4, ge=1)
    """Layers, spread evenly over those of the decoder."""
    num_heads: int = Field(16, ge=1)
    """Attention heads."""
    initial_gate: float = Field(0.0, ge=0)
    """Where the gates start, before tanh; 0 leaves a pretrained language model as it was, one that starts from nothing
    learns to look sooner with more."""

    def check(self, language: LanguageModelConfig) -> None:
        """See that it fits the decoder.

        Raises: ValueError naming field, value and cure.
        """
        if language.hidden_size % self.num_heads:
            raise ValueError(
                f"model.language.hidden_size {language.hidden_size} is not a multiple of model.fusion.num_heads "
                f"{self.num_heads}; change one of them"
            )
        if self.num_layers > language.num_layers:
            raise ValueError(
                f"model.fusion.num_layers {self.num_layers} is more than model.language.num_layers "
                f"{language.num_layers}; lower the former"
            )


class XoronConfig(Section):
    """The whole model. Components that no enabled modality needs are not built."""

    tokenizer: str = "Qwen/Qwen2.5-1.5B"
    """`demo` for the one shipped here, a folder or `tokenizer.json`, or a name on the Hugging Face hub."""
    pretrained: str | None = None
    """Weights to begin with: a folder that `xoron export` wrote, or a name on the Hugging Face hub; components that are
    not in it, and null, begin from the seed."""
    language: LanguageModelConfig = LanguageModelConfig()
    """The decoder."""
    fusion: FusionConfig = FusionConfig()
    """Lets text attend to pictures, clips and sound between the decoder's layers."""
    vision_encoder: VisionEncoderConfig = VisionEncoderConfig()
    """Sees pictures, and clips frame by frame."""
    image_compressor: ImageCompressorConfig = ImageCompressorConfig()
    """Makes few tokens of a picture's patches."""
    image_projector: ProjectorConfig = ProjectorConfig()
    """Brings a picture's tokens into the decoder."""
    video_encoder: VideoEncoderConfig = VideoEncoderConfig()
    """Sees motion in the patches of a clip's frames."""
    video_projector: ProjectorConfig = ProjectorConfig()
    """Brings a clip's tokens into the decoder."""
    audio_encoder: AudioEncoderConfig = AudioEncoderConfig()
    """Hears speech, and what brings that into the decoder."""
    speaker_encoder: SpeakerEncoderConfig = SpeakerEncoderConfig()
    """Knows a voice by a short clip."""
    audio_decoder: AudioDecoderConfig = AudioDecoderConfig()
    """Makes spectrograms of text, in a voice."""
    waveform_decoder: WaveformDecoderConfig = WaveformDecoderConfig()
    """Makes sound of spectrograms."""
    image_generator: ImageGeneratorConfig = ImageGeneratorConfig()
    """The diffusion transformer for images."""
    video_generator: VideoGeneratorConfig = VideoGeneratorConfig()
    """The diffusion transformer for clips."""
    autoencoder: str = "demo"
    """`demo` for the KL autoencoder shipped here, or a folder that holds one in the same form."""

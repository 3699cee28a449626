"""From text and a voice to a mel spectrogram. Defaults are those of `base`."""

from pydantic import Field, model_validator

from xoron_core.contract.config.section import Section


class AudioDecoderConfig(Section):
    """FFT blocks over tokens, durations, pitch and energy, FFT blocks over frames (FastSpeech 2, arXiv 2006.04558)."""

    hidden_size: int = Field(512, ge=8)
    """Width of the residual stream."""
    num_encoder_layers: int = Field(4, ge=1)
    """FFT blocks over tokens."""
    num_decoder_layers: int = Field(4, ge=1)
    """FFT blocks over frames."""
    num_heads: int = Field(8, ge=1)
    """Attention heads."""
    feed_forward_size: int = Field(2048, ge=8)
    """Hidden width of the convolutional feed-forward."""
    conv_kernel_size: int = Field(9, ge=1)
    """Tokens or frames that the first convolution of a feed-forward sees."""
    alignment_size: int = Field(128, ge=1)
    """Width in which tokens and frames are compared."""
    predictor_size: int = Field(256, ge=1)
    """Width of the predictors of duration, pitch and energy."""
    max_frames_per_token: int = Field(64, ge=1)
    """Longest duration that synthesis gives a token; 62.5 frames are a second."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "AudioDecoderConfig":
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 × num_heads {self.num_heads} "
                "(rotary positions turn pairs); change one of them"
            )
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size {self.conv_kernel_size} is even; make it odd, so that it has a middle")
        return self


class SpeakerEncoderConfig(Section):
    """A voice as a vector of unit length, from the mel spectrogram of a reference clip."""

    conv_size: int = Field(256, ge=8)
    """Width of the convolutions."""
    gru_size: int = Field(256, ge=8)
    """Width of the recurrent layer."""
    embedding_size: int = Field(256, ge=1)
    """Width of the vector."""

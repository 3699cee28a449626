"""Names of the model's components, for options that are told of them."""

from typing import Literal

ComponentName = Literal[
    "llm",
    "fusion",
    "vision_encoder",
    "image_compressor",
    "image_projector",
    "video_encoder",
    "video_projector",
    "autoencoder",
    "generator",
    "video_generator",
    "audio_encoder",
    "audio_projector",
    "ctc_head",
    "speaker_encoder",
    "audio_decoder",
    "waveform_decoder",
]
"""A run has those that its modalities need."""

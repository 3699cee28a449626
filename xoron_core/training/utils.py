"""The reference's step functions and device map, under the name that it gives them."""

from xoron_core.distributed.device_map import get_device_map
from xoron_core.training.steps import (
    eval_image_diffusion_step,
    eval_video_diffusion_step,
    eval_voice_asr_step,
    eval_voice_tts_step,
    train_image_diffusion_step,
    train_video_diffusion_step,
    train_voice_asr_step,
    train_voice_tts_step,
)

__all__ = [
    "eval_image_diffusion_step",
    "eval_video_diffusion_step",
    "eval_voice_asr_step",
    "eval_voice_tts_step",
    "get_device_map",
    "train_image_diffusion_step",
    "train_video_diffusion_step",
    "train_voice_asr_step",
    "train_voice_tts_step",
]

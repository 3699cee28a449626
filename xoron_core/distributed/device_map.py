"""Which GPU each component of the model lies on, where it is spread over several (model parallelism)."""

from typing import get_args

from xoron_core.contract.config.components import ComponentName

LANGUAGE = frozenset({"llm", "fusion"})
"""Fusion works between the layers of the language model, and lies where it does."""
GENERATORS = frozenset({"generator", "video_generator", "autoencoder", "audio_decoder", "waveform_decoder"})
"""What makes pictures, clips and sound. All other components are encoders and projectors."""


def get_device_map(num_gpus: int) -> dict[str, str]:
    """Component → device, for every component that a model can have; on the CPU where there is no GPU.

    One GPU has all of them. Of two the first has encoders, projectors and generators, the second the language model
    and its fusion layers. Of three or more the first has encoders and projectors, the second the language model, the
    third the generators and the decoders of sound.
    Raises: ValueError for a negative number.
    """
    if num_gpus < 0:
        raise ValueError(f"a number of GPUs is 0 at least, got {num_gpus}")
    return {name: _device_of(name, num_gpus) for name in get_args(ComponentName)}


def _device_of(component: str, num_gpus: int) -> str:
    if num_gpus == 0:
        return "cpu"
    if num_gpus >= 2 and component in LANGUAGE:
        return "cuda:1"
    if num_gpus >= 3 and component in GENERATORS:
        return "cuda:2"
    return "cuda:0"

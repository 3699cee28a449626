"""Pretrained weights of the image backbone, from a folder or from the Hugging Face hub."""

from pathlib import Path
from typing import Any

from xoron_core.contract.config.vision import VisionEncoderConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.model.vision.encoder import VisionEncoder

FIELD = "model.vision_encoder.pretrained"
HUB_TIMEOUT_S = 10.0

_SIZES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}
"""Our field → that of `SiglipVisionConfig`."""


def load_vision_weights(encoder: VisionEncoder) -> None:
    """Load the weights that `vision_encoder.pretrained` names; null: leave those of the seed.

    A whole SigLIP will do as well as its vision tower alone; the pooling head is left out.
    Raises: ConfigError when they cannot be had, or are of other sizes than the configuration.
    """
    name = encoder.config.pretrained
    if name is None:
        return
    try:
        loaded = _load(name)
    except Exception as error:  # boundary: the hub's client and transformers raise errors of every kind
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError.of(
            FIELD,
            f"cannot be loaded ({reason}); set it to null for weights from the seed, or give a folder that holds a "
            "SigLIP, or a name on the hub that this machine can reach",
            name,
        ) from error
    _check_sizes(encoder.config, loaded.config, name)
    encoder.vision_model.load_state_dict(loaded.state_dict())


def _load(name: str) -> Any:
    """The vision tower, in fp32, without its head."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from transformers import SiglipVisionModel

    is_local = Path(name).is_dir() or bool(try_to_load_from_cache(name, "config.json"))
    if not is_local:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)  # fails at once where transformers would try for a minute
    load: Any = SiglipVisionModel.from_pretrained  # its annotation does not know that it may return a pair
    loaded, info = load(
        name, local_files_only=is_local, vision_use_head=False, dtype="float32", output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{len(missing)} weights of a SigLIP vision tower are missing, among them {missing[0]}")
    return loaded


def _check_sizes(config: VisionEncoderConfig, loaded: Any, name: str) -> None:
    ours, theirs = config.model_dump(), loaded.to_dict()
    others = [
        f"{field} {theirs[key]} (here {ours[field]})" for field, key in _SIZES.items() if theirs[key] != ours[field]
    ]
    if others:
        raise ConfigError.of(FIELD, f"its weights have {', '.join(others)}; change model.vision_encoder to them", name)

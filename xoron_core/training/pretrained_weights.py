"""Weights of an exported model to begin with, component by component."""

import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from xoron_core.contract.errors import CheckpointError, ConfigError
from xoron_core.export.pretrained import folder_of
from xoron_core.export.weights import find_weights
from xoron_core.model.xoron import XoronMultimodalModel

FIELD = "model.pretrained"

log = logging.getLogger(__name__)


def load_pretrained(model: XoronMultimodalModel, name: str) -> None:
    """Give the components that an exported model has its weights; the others keep those they have, which is told.

    Raises: ConfigError when there is no such model, or a component of it is of another shape than here.
    """
    try:
        shared = _load(model, folder_of(name))
    except (CheckpointError, ConfigError) as error:
        raise ConfigError.of(
            FIELD,
            f"cannot be used ({error}); give what `xoron export` wrote, of the same sizes as here, or set it to null",
            name,
        ) from error
    own = ", ".join(sorted(model.components - set(shared))) or "none"
    log.info("weights from %s: %s; from the seed or files of their own: %s", name, ", ".join(shared), own)


def _load(model: XoronMultimodalModel, folder: Path) -> list[str]:
    """The components that got their weights. Raises: CheckpointError when none can, or one does not fit."""
    found = find_weights(folder)
    shared = sorted(model.components & {tensor.partition(".")[0] for tensor in found})
    if not shared:
        raise CheckpointError(
            f"none of its components is trained here, which are {', '.join(sorted(model.components))}"
        )
    for component in shared:
        _load_component(model, component, found)
    return shared


def _load_component(model: XoronMultimodalModel, component: str, found: dict[str, Path]) -> None:
    """Raises: CheckpointError naming tensors that are missing, unknown or of another shape."""
    prefix = f"{component}."
    weights: dict[str, Tensor] = {}
    for path in {path for tensor, path in found.items() if tensor.startswith(prefix)}:
        try:
            held = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        weights |= {tensor.removeprefix(prefix): held[tensor] for tensor in held if tensor.startswith(prefix)}
    try:
        model.get_submodule(component).load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(str(error)) from error

"""The plain weights of a model that was trained with adapters: what they have learned is added."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.errors import CheckpointError
from xoron_core.export.description import ModelDescription
from xoron_core.export.weights import WEIGHTS_FILE, find_weights, write_weights
from xoron_core.training.adapters.lora import add_adapters, is_adapter, merge_adapters, remove_adapters


def has_adapters(folder: Path) -> bool:
    """Whether adapters are among the weights of a folder or checkpoint. Raises: CheckpointError."""
    return any(is_adapter(name) for name in find_weights(folder))


def merged_weights(path: Path, description: ModelDescription, lora: LoraConfig) -> dict[str, Tensor]:
    """The weights in a file of a checkpoint, adapters added to what they are on, under the plain model's names.

    Raises: CheckpointError when the adapters are not those that the configuration says.
    """
    tensors = load_file(path)
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("llm.")}
    model = description.with_components(frozenset({"llm"})).build().to_empty(device="cpu")
    model.init_weights(torch.Generator())  # DoRA takes the norms of what is there
    add_adapters(model, lora, torch.Generator())
    try:
        model.load_state_dict({name: tensor for name, tensor in tensors.items() if name.startswith("llm.")})
    except RuntimeError as error:
        raise CheckpointError(f"the adapters in {path} are not those of its configuration: {error}") from error
    merge_adapters(model)
    remove_adapters(model)
    return {**others, **model.state_dict()}


def merge_folder(folder: Path, lora: LoraConfig) -> None:
    """Give an exported folder the plain weights in the place of those with adapters; once it has them, nothing."""
    if has_adapters(folder):
        path = folder / WEIGHTS_FILE
        merged = merged_weights(path, ModelDescription.read(folder), lora)
        path.unlink()  # it is the checkpoint's own file under a second name: never write into it
        write_weights(folder, merged)

"""Tensors in safetensors files, whole or in shards with an index, and from there to the devices they belong on."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from xoron_core.contract.errors import CheckpointError
from xoron_core.model.layers.moe import Router
from xoron_core.model.layers.rope import YarnRope
from xoron_core.model.vision.encoder import VisionEncoder

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
EMBEDDING = "llm.model.embed_tokens.weight"
"""A tensor that every exported model has."""
MAX_NAMED = 5
"""Tensors that an error names."""

DeviceOf = Callable[[str], torch.device]
"""The device of a component."""


def write_weights(folder: Path, tensors: Mapping[str, Tensor], max_shard_size: str | int = "5GB") -> None:
    """Write tensors into a folder, in several files with an index where one would be larger than `max_shard_size`."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(dict(tensors), folder, max_shard_size=max_shard_size)


def link_weights(source: Path, folder: Path) -> None:
    """Give a file of weights a second name in a folder, so that it stays when the first is removed; a copy where the
    file system has no hard links."""
    target = folder / WEIGHTS_FILE
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that cannot
        shutil.copyfile(source, target)


def find_weights(folder: Path) -> dict[str, Path]:
    """Which file of a folder holds each tensor.

    Raises: CheckpointError when there are none, or the index is damaged.
    """
    index = folder / INDEX_FILE
    try:
        if index.is_file():
            named: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {tensor: folder / Path(file).name for tensor, file in named.items()}
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            return dict.fromkeys(file.keys(), folder / WEIGHTS_FILE)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the weights in {folder} cannot be read: {error}") from error


def check_weights(model: nn.Module, found: Mapping[str, Path]) -> None:
    """Compare names and shapes of tensors in files with those of a model, which may be on the meta device.

    Raises: CheckpointError naming tensors that are missing, unknown, or of another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [
        *_named("missing", sorted(expected.keys() - found.keys())),
        *_named("unknown", sorted(found.keys() - expected.keys())),
    ]
    if problems:
        raise CheckpointError(f"the weights are not those of this model: {'; '.join(problems)}")
    for path, names in _by_file(found).items():
        with _opened(path) as file:
            for name in names:
                shape = tuple(file.get_slice(name).get_shape())
                if shape != expected[name]:
                    problems.append(f"{name} has shape {list(shape)} and should have {list(expected[name])}")
    if problems:
        raise CheckpointError(f"{'; '.join(problems[:MAX_NAMED])}; the weights and config.json are of different models")


def load_weights(
    model: nn.Module, found: Mapping[str, Path], device_of: DeviceOf, dtype: torch.dtype | None = None
) -> None:
    """Fill a model that stands on the meta device, each component straight on its own device.

    `dtype` is what weights are converted to; the routers' counters, which are sums of small steps, stay as they are.
    Raises: CheckpointError as `check_weights`, and for what no file holds.
    """
    check_weights(model, found)
    kept = {f"{name}.{buffer}" for name, module in _routers(model) for buffer, _ in module.named_buffers()}
    loaded: dict[str, Tensor] = {}
    for path, names in _by_file(found).items():
        for device in {device_of(_component(name)) for name in names}:
            with _opened(path, device) as file:
                for name in names:
                    if device_of(_component(name)) == device:
                        tensor = file.get_tensor(name)
                        is_converted = tensor.is_floating_point() and name not in kept
                        loaded[name] = tensor.to(dtype) if is_converted else tensor
    model.load_state_dict(loaded, assign=True)
    for component, part in model.named_children():
        for module in part.modules():
            restore_unsaved(module, device_of(component))
    if left := [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]:
        raise CheckpointError(f"nothing says what is in {', '.join(left[:MAX_NAMED])}")


def restore_unsaved(module: nn.Module, device: torch.device) -> None:
    """Set what files do not hold, which a construction on the meta device has lost."""
    if isinstance(module, YarnRope):
        module.frequencies_R = torch.empty(module.width // 2, dtype=torch.float32, device=device)
        module.init_own(torch.Generator())  # draws nothing
    elif isinstance(module, VisionEncoder):
        embeddings = module.vision_model.embeddings
        numbers = torch.arange(embeddings.num_positions, device=device).unsqueeze(0)
        embeddings.register_buffer("position_ids", numbers, persistent=False)
    elif isinstance(module, Router):
        module.load_E = torch.zeros(module.config.num_experts, dtype=torch.float32, device=device)


def _routers(model: nn.Module) -> list[tuple[str, Router]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Router)]


def _component(name: str) -> str:
    return name.partition(".")[0]


def _by_file(found: Mapping[str, Path]) -> dict[Path, list[str]]:
    files: dict[Path, list[str]] = {}
    for name, path in found.items():
        files.setdefault(path, []).append(name)
    return files


def _opened(path: Path, device: torch.device = torch.device("cpu")) -> safe_open:
    try:
        return safe_open(path, framework="pt", device=str(device))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = "" if len(names) <= MAX_NAMED else f" and {len(names) - MAX_NAMED} more"
    return [f"{what}: {', '.join(names[:MAX_NAMED])}{more}"]

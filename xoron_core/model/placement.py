"""A model whose components lie on several devices.

Each component takes its inputs to where it lies and brings what it makes of them back to where they came from. So
whatever calls it works as on one device, and only what passes between components travels. Which component goes where is
the caller's decision: no device is named here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from types import MappingProxyType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

Device = str | int | torch.device
"""What `torch.device` understands; a number is a GPU."""

ENTRIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "llm": ("forward", "logits", "model.embed_tokens.forward"),
        "autoencoder": ("encode", "decode", "encode_scaled", "decode_scaled"),
        "generator": ("forward", "predict"),
        "video_generator": ("forward", "predict"),
        "ctc_head": ("forward", "loss_sum", "decode"),
        "audio_decoder": ("forward", "predict"),
    }
)
"""What is called of a component from outside, where it is more than `forward`."""


def place_components(components: Mapping[str, nn.Module], device_map: Mapping[str, Device]) -> None:
    """Put every component on its device, once, and make it accept inputs that lie elsewhere.

    A component on the meta device gets memory without values: initialise it, or load it. `device_map` may name
    components that are not there. Raises ValueError for a component that it does not name, and where `fusion` is apart
    from `llm`, between whose layers it works.
    """
    if left_out := sorted(components.keys() - device_map.keys()):
        raise ValueError(f"device_map does not say where {', '.join(left_out)} should go; name every component")
    devices = {name: torch.device(device_map[name]) for name in components}
    if "fusion" in devices and devices["fusion"] != devices["llm"]:
        raise ValueError(
            f"device_map puts fusion on {devices['fusion']} and llm on {devices['llm']}; fusion works between the "
            "layers of llm: put both on one device"
        )
    for name, component in components.items():
        _move(component, devices[name])
    if len(set(devices.values())) > 1:
        for name in components.keys() - {"fusion"}:  # what llm calls is where it is needed
            for entry in ENTRIES.get(name, ("forward",)):
                _open_entry(components[name], entry, devices[name])


def move_tensors(value: Any, device: torch.device) -> Any:
    """`value` with the tensors in it on `device`, however they are nested in tuples, lists, mappings and dataclasses;
    anything else as it is, modules included."""
    match value:
        case Tensor():
            return value.to(device, non_blocking=device.type != "cpu")  # a CPU would not wait for what it then reads
        case torch.Size():
            return value
        case tuple() | list():
            moved = [move_tensors(item, device) for item in value]
            is_plain = type(value) in (tuple, list)
            return type(value)(moved) if is_plain else type(value)(*moved)  # a named tuple takes its fields one by one
        case dict():
            return {key: move_tensors(item, device) for key, item in value.items()}
        case _ if _is_record(value):
            return replace(value, **{name: move_tensors(item, device) for name, item in _items(value)})
    return value


def _move(component: nn.Module, device: torch.device) -> None:
    if any(tensor.is_meta for tensor in (*component.parameters(), *component.buffers())):
        component.to_empty(device=device)
    else:
        component.to(device)


def _open_entry(component: nn.Module, path: str, device: torch.device) -> None:
    """Replace a method of this one module by one that fetches its inputs and returns its outputs."""
    *parents, name = path.split(".")
    module = component.get_submodule(".".join(parents))
    # bound to the module, so that a copy of it calls its own
    setattr(module, name, MethodType(_travelling(getattr(type(module), name), device), module))


def _travelling(method: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    @wraps(method)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        origin = next((tensor.device for tensor in _tensors((args, kwargs))), device)
        made = method(self, *move_tensors(args, device), **move_tensors(kwargs, device))
        return move_tensors(made, origin)

    return call


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors that `move_tensors` would move, in order."""
    match value:
        case Tensor():
            yield value
        case tuple() | list():
            for item in value:
                yield from _tensors(item)
        case dict():
            for item in value.values():
                yield from _tensors(item)
        case _ if _is_record(value):
            for _, item in _items(value):
                yield from _tensors(item)


def _is_record(value: object) -> bool:
    """Whether it is a dataclass's instance."""
    return is_dataclass(value) and not isinstance(value, type)


def _items(record: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(record, field.name)) for field in fields(record))

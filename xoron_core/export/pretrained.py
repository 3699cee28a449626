"""`XoronModel`: the whole model with `save_pretrained` and `from_pretrained`, as Hugging Face has them, without
transformers."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch

from xoron_core.contract.errors import ConfigError
from xoron_core.distributed.device_map import get_device_map
from xoron_core.export.description import ModelDescription
from xoron_core.export.files import write_description
from xoron_core.export.weights import find_weights, load_weights, write_weights
from xoron_core.model.placement import Device, place_components
from xoron_core.model.xoron import XoronMultimodalModel

DeviceMap = Device | Literal["auto"] | Mapping[str, Device] | None
"""One device, `auto` (all GPUs, the CPU where there is none), a device for each component, or None: the CPU."""

HUB_FILES = ("*.json", "*.safetensors")


class XoronModel(XoronMultimodalModel):
    """A model that is read from an exported folder, or from a repository of the hub."""

    special_ids: Mapping[str, int] = MappingProxyType({})
    """`bos_token_id`, `eos_token_id` and `pad_token_id` of the tokenizer in the folder."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device_map: DeviceMap = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        components: Collection[str] | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> "XoronModel":
        """A model in evaluation mode, each component read straight to its device.

        `dtype` (or `torch_dtype`, its older name) is what weights are converted to, None or "auto": what they are.
        `components` are the parts wanted, None: all. `revision` and `token` are for a repository.
        Raises: CheckpointError naming tensors that are missing, unknown or of another shape; ConfigError for a name
        that cannot be had; ValueError for components or devices that do not go together.
        """
        folder = folder_of(name_or_path, revision, token)
        whole = ModelDescription.read(folder)
        description = whole.with_components(None if components is None else frozenset(components))
        devices = _devices(device_map, description.components)
        model = description.build(cls)
        assert isinstance(model, cls)
        left_out = whole.components - description.components
        found = {name: path for name, path in find_weights(folder).items() if name.partition(".")[0] not in left_out}
        load_weights(model, found, lambda component: devices[component], _dtype(dtype if dtype else torch_dtype))
        if len(set(devices.values())) > 1:
            place_components(dict(model.named_children()), devices)
        model.special_ids = whole.special_ids
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, max_shard_size: str | int = "5GB") -> None:
        """Write `config.json`, `generation_config.json` and the weights into a folder, which is made where it is
        missing. The tokenizer saves itself."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        write_description(path, ModelDescription.of(self, self.special_ids))
        write_weights(path, self.state_dict(), max_shard_size)

    def eval(self) -> "XoronModel":
        """Evaluation mode."""
        super().eval()
        return self


def folder_of(name_or_path: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """The folder itself, or where the hub's client keeps a repository's files.

    Raises: ConfigError when there is neither.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(str(name_or_path), revision=revision, token=token, allow_patterns=list(HUB_FILES))
        )
    except (HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
        raise ConfigError.of(
            "name_or_path",
            "is no folder here, and no repository that this machine can reach; `xoron export` makes a folder",
            str(name_or_path),
        ) from error


def _devices(device_map: DeviceMap, components: frozenset[str]) -> dict[str, torch.device]:
    """Raises: ValueError for components that the map does not name."""
    if device_map == "auto":
        device_map = get_device_map(torch.cuda.device_count())
    if not isinstance(device_map, Mapping):
        device = torch.device("cpu" if device_map is None else device_map)
        return dict.fromkeys(components, device)
    if missing := components - device_map.keys():
        raise ValueError(f"device_map has no device for {', '.join(sorted(missing))}; name every component")
    return {name: torch.device(device_map[name]) for name in components}


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Raises: ValueError for what is no dtype."""
    if dtype is None or dtype == "auto":
        return None
    found: Any = vars(torch).get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype {dtype!r} is none of weights; give float32, bfloat16 or float16")
    return found

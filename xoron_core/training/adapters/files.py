"""Adapters as files of their own, in peft's form: `adapter_config.json` and `adapter_model.safetensors`.

peft loads such a folder onto a `LanguageModel` as it loads any: `PeftModel.from_pretrained(model.llm, folder)`. Both
adapters go into one, which has no dropout where it is on experts; what training dropped out stands in the run's
configuration.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError
from xoron_core.contract.files import parse_yaml
from xoron_core.training.adapters.lora import EXPERT_ADAPTER, is_adapter, peft_config
from xoron_core.training.adapters.targets import stacked_targets
from xoron_core.training.checkpoint import verify_checkpoint

log = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"

_NAME = re.compile(r"llm\.(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)\.(?P<adapter>\w+)\.weight")


def save_adapters(model: nn.Module, folder: Path, lora: LoraConfig) -> None:
    """Write the adapters of a model, and nothing else of it.

    Raises: CheckpointError when there are none.
    """
    write_adapters(model.state_dict(), folder, lora)


def export_adapters(checkpoint: Path, folder: Path) -> None:
    """Write the adapters that a checkpoint holds; no model is built.

    Raises: CheckpointError when it is damaged, or without adapters.
    """
    verify_checkpoint(checkpoint)
    config = RunConfig.parse(parse_yaml((checkpoint / "config.yaml").read_text(encoding="utf-8")))
    with safe_open(checkpoint / "model.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys() if is_adapter(name)}  # noqa: SIM118
    write_adapters(weights, folder, config.lora)


def write_adapters(weights: Mapping[str, Tensor], folder: Path, lora: LoraConfig) -> None:
    """Write those of a model's weights that belong to adapters.

    Raises: CheckpointError when none does.
    """
    found = {name: match for name in weights if (match := _NAME.fullmatch(name))}
    if not found:
        raise CheckpointError("there are no adapters to write; train with lora.use_lora true")
    linear = {match["layer"].rpartition(".")[2] for match in found.values() if match["adapter"] != EXPERT_ADAPTER}
    has_experts = any(match["adapter"] == EXPERT_ADAPTER for match in found.values())
    stacked = stacked_targets(lora) if has_experts else ()
    config = peft_config(lora, sorted(linear), stacked, dropout=0.0 if stacked else lora.dropout)
    config.inference_mode = True
    tensors = {_name_in_file(name): weights[name].detach().cpu().contiguous() for name in found}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(folder)
    if not lora.train_lora_only:
        log.warning("the adapters in %s go with the other weights of their run, which were trained beside them", folder)


def load_adapters(model: nn.Module, folder: Path) -> None:
    """Give a model's adapters the weights in a folder, of ours or of peft's making.

    Raises: CheckpointError when they cannot be read, or are on other weights or of another rank.
    """
    names = {_name_in_file(name): name for name in model.state_dict() if is_adapter(name)}
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read adapters from {folder}: {error}") from error
    if other := sorted(names.keys() ^ tensors.keys()):
        raise CheckpointError(
            f"the adapters in {folder} are on other weights than the model's, among them {other[0]}; set "
            "lora.target_modules to theirs"
        )
    try:
        model.load_state_dict({names[name]: tensor for name, tensor in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"the adapters in {folder} are of other shapes; set lora.r to theirs: {error}") from error


def _name_in_file(name: str) -> str:
    """peft's: below the root of its own, without the adapter's name."""
    match = _NAME.fullmatch(name)
    assert match is not None, name
    end = "" if match["part"] == "lora_magnitude_vector" else ".weight"
    return f"base_model.model.{match['layer']}.{match['part']}{end}"

"""How many parameters a configuration trains, adapters included that nobody has put on yet."""

from torch import Tensor, nn

from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.config.run import RunConfig
from xoron_core.model.layers.moe import Experts
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.adapters.targets import find_targets


def num_trained(config: RunConfig, model: XoronMultimodalModel) -> int:
    """Parameters that have gradients: all but frozen components and, of what is under an adapter, the adapter.

    Raises: ConfigError for targets of adapters that mean nothing here.
    """
    lora = config.lora
    adapters = num_adapter_parameters(lora, model.llm)
    if lora.use_lora and lora.train_lora_only:
        return adapters
    frozen = {*config.training.frozen_components, "autoencoder"}
    counts = {name: count for name, count in model.num_parameters().items() if name not in frozen}
    replaced = sum(weight.numel() for weight in _adapted(lora, model.llm)) if "llm" in counts else 0
    return sum(counts.values()) - replaced + adapters


def num_adapter_parameters(lora: LoraConfig, llm: nn.Module) -> int:
    """Parameters of all adapters: r rows and columns for each matrix, and with DoRA a length for each output.

    Raises: ConfigError for targets that mean nothing here.
    """
    total = 0
    for weight in _adapted(lora, llm):
        *stacked, rows, columns = weight.shape
        total += lora.r * (stacked[0] if stacked else 1) * (rows + columns)
        total += rows if lora.use_dora else 0
    return total


def _adapted(lora: LoraConfig, llm: nn.Module) -> list[Tensor]:
    """The weights of the language model that adapters are on."""
    if not lora.use_lora:
        return []
    targets = find_targets(llm, lora)
    found: list[Tensor] = []
    for path, module in llm.named_modules():
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in targets.linear:
            found.append(module.weight)
        elif isinstance(module, Experts):
            found += [parameter for name, parameter in module.named_parameters() if name in targets.stacked]
    return found

"""Adapters of a language model: put on, merged, taken off.

LoRA (arXiv 2106.09685) learns a low-rank difference B·A to a weight that stays as it is; rsLoRA (arXiv 2312.03732)
scales it by alpha / √r instead of alpha / r, DoRA (arXiv 2402.09353) learns the lengths of the weight's rows beside it.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn

from xoron_core.contract.config.lora import LoraConfig
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.moe import MoE
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.adapters.targets import Targets, find_targets

log = logging.getLogger(__name__)

LINEAR_ADAPTER = "default"
"""peft's name for the adapter of the linear layers."""
EXPERT_ADAPTER = "experts"
"""And for that of the experts: a second one, because it can have no dropout."""


def add_adapters(model: XoronMultimodalModel, lora: LoraConfig, generator: torch.Generator) -> None:
    """Put adapters on the language model, which change nothing yet, and freeze the weights that they are on.

    Those weights must be there already. `train_lora_only` freezes everything else, too; otherwise it stays as it was.
    Parameters of adapters have `.lora_` in their names, adapted weights `.base_layer.`.
    Raises: ConfigError for targets that mean nothing here; ValueError for DoRA on experts.
    """
    lora.check(model.config.language)
    llm = model.llm
    targets = find_targets(llm, lora)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    with torch.random.fork_rng(devices=[]):  # peft draws weights, too; the generator's take their place
        _wrap_linear(llm, lora, targets)
        _wrap_experts(llm, lora, targets)
    llm.train(llm.training)  # adapters, too
    _init_adapters(llm, generator)
    _choose_trained(model, trained, lora)
    for module in llm.modules():
        if isinstance(module, Checkpointed):
            module.draws_randomly = lora.dropout > 0
    sizes = [(name, parameter.requires_grad, parameter.numel()) for name, parameter in model.named_parameters()]
    log.info(
        "adapters of %s parameters; %s of all %s are trained",
        f"{sum(size for name, _, size in sizes if is_adapter(name)):,}",
        f"{sum(size for _, is_trained, size in sizes if is_trained):,}",
        f"{sum(size for _, _, size in sizes):,}",
    )


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def adapted_layers(model: nn.Module) -> Iterator[Any]:
    """peft's layers, outer ones first."""
    from peft.tuners.lora import LoraLayer

    return (module for module in list(model.modules()) if isinstance(module, LoraLayer))


def merge_adapters(model: nn.Module) -> None:
    """Add what adapters have learned to the weights that they are on: the same outputs, at the cost of no adapter.

    For inference. A checkpoint of a merged model would count adapters twice: unmerge it before, or take the adapters
    off with `remove_adapters`.
    """
    for layer in adapted_layers(model):
        if not layer.merged:
            layer.merge()


def unmerge_adapters(model: nn.Module) -> None:
    """Undo `merge_adapters`. The weights are the old ones but for rounding: what was added is subtracted again."""
    for layer in adapted_layers(model):
        if layer.merged:
            layer.unmerge()


def remove_adapters(model: nn.Module) -> None:
    """Take adapters off: the plain model again, with its plain names, and with what was merged into its weights."""
    layers = {id(layer) for layer in adapted_layers(model)}
    for parent in list(model.modules()):
        if id(parent) in layers:
            continue
        for name, child in list(parent.named_children()):
            if id(child) in layers:
                setattr(parent, name, cast("Any", child).get_base_layer())


def peft_config(lora: LoraConfig, linear: Sequence[str], stacked: Sequence[str], *, dropout: float) -> Any:
    """The options in peft's own form, for these weights."""
    import peft

    make: Any = peft.LoraConfig  # its annotations know no alpha with a fraction
    return make(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=dropout,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        target_modules=list(linear),
        target_parameters=list(stacked),
    )


def _wrap_linear(llm: nn.Module, lora: LoraConfig, targets: Targets) -> None:
    if not targets.linear:
        return
    from peft import inject_adapter_in_model

    inject_adapter_in_model(peft_config(lora, targets.linear, (), dropout=lora.dropout), llm, LINEAR_ADAPTER)
    del llm.peft_config  # what it leaves on the model, for calls of its own
    for layer in adapted_layers(llm):
        layer.cast_input_dtype_enabled = False  # both have one precision: a copy of every input, for nothing


def _wrap_experts(llm: nn.Module, lora: LoraConfig, targets: Targets) -> None:
    if not targets.stacked:
        return
    from xoron_core.training.adapters.experts import AdaptedExperts

    wrap: Any = AdaptedExperts
    config = peft_config(lora, (), targets.stacked, dropout=0.0)
    for module in llm.modules():
        if isinstance(module, MoE):
            for name in targets.stacked:
                module.experts = wrap(
                    module.experts,
                    EXPERT_ADAPTER,
                    parameter_name=name,
                    config=config,
                    r=lora.r,
                    lora_alpha=lora.alpha,
                )


@torch.no_grad()
def _init_adapters(llm: nn.Module, generator: torch.Generator) -> None:
    """As peft does: A uniform within 1/√(inputs), B zero. In the precision of the weights."""
    for layer in adapted_layers(llm):
        dtype = next(layer.get_base_layer().parameters()).dtype
        for name, first in layer.lora_A.items():
            drawn = torch.empty(first.weight.shape, device=generator.device)
            bound = first.in_features**-0.5
            first.weight.copy_(drawn.uniform_(-bound, bound, generator=generator))
            layer.lora_B[name].weight.zero_()
        for part in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
            part.to(dtype)


def _choose_trained(model: nn.Module, trained: set[int], lora: LoraConfig) -> None:
    """Adapters; and what was `trained` before and has no adapter, unless adapters are all that is trained."""
    from peft.tuners.lora import ParamWrapper

    adapted = {
        id(cast("Any", layer).get_param() if isinstance(layer, ParamWrapper) else layer.get_base_layer().weight)
        for layer in adapted_layers(model)
    }
    rest = set() if lora.train_lora_only else trained - adapted
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name) or id(parameter) in rest)

"""Small language models with adapters that have learned something, and what those amount to, written plainly."""

from typing import Any

import torch
from torch import Tensor

from support.small_models import make_xoron, seeded
from xoron_core.contract.config.lora import LoraConfig
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.adapters.lora import add_adapters, is_adapter

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def lora_config(**changes: Any) -> LoraConfig:
    """Rank 4; the attention alone where it is DoRA, which cannot be on experts."""
    targets = {"target_modules": ATTENTION_TARGETS} if changes.get("use_dora") else {}
    return LoraConfig(**{"use_lora": True, "r": 4, "alpha": 6.0, **targets, **changes})


def adapted_model(lora: LoraConfig, *, learned: bool = True, seed: int = 0, **language: Any) -> XoronMultimodalModel:
    """A language model in eval mode whose weights depend on the seed alone; with `learned` adapters, or new ones."""
    model = make_xoron(seed, frozenset({"llm"}), **language).eval()
    add_adapters(model, lora, seeded(seed + 1))
    if learned:
        generator = seeded(seed + 2)
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def plainly_adapted(model: XoronMultimodalModel, lora: LoraConfig, seed: int = 0, **language: Any) -> LanguageModel:
    """A language model without adapters that has what `model`'s amount to in its weights."""
    weights = model.state_dict()
    scaling = lora.alpha / (lora.r**0.5 if lora.use_rslora else lora.r)
    plain = make_xoron(seed, frozenset({"llm"}), **language).eval()
    wrappers = {"gate_up_EDF": "experts.base_layer", "down_EFD": "experts"}
    for name, weight in plain.named_parameters():
        layer, _, last = name.rpartition(".")
        if last in wrappers:
            assert torch.equal(weight, weights[f"{layer}{'.base_layer' * 2}.{last}"])
            prefix = layer.removesuffix("experts") + wrappers[last]
            a, b = weights[f"{prefix}.lora_A.experts.weight"], weights[f"{prefix}.lora_B.experts.weight"]
            a_ERI, b_ORE = a.view(len(weight), lora.r, -1), b.view(-1, lora.r, len(weight))
            weight.data += scaling * torch.einsum("eri,ore->eio", a_ERI, b_ORE)
        elif (first := f"{layer}.lora_A.default.weight") in weights:
            assert torch.equal(weight, weights[f"{layer}.base_layer.weight"])
            weight.data += scaling * torch.einsum("ri,or->oi", weights[first], weights[first.replace("_A", "_B")])
        else:
            assert torch.equal(weight, weights[name])
    return plain.llm


@torch.no_grad()
def logits(llm: LanguageModel, tokens: Tensor) -> Tensor:
    found: Tensor = llm(tokens, return_logits=True).logits_BTV
    return found

"""AdamW's parameter groups."""

import re
from typing import get_args

import torch
from support.small_models import make_xoron
from torch import nn

from xoron_core.contract.config.components import ComponentName
from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.presets import resolve
from xoron_core.model.components import COMPONENTS
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.optimizer import build_optimizer, decays

PLAIN = {"learning_rate": 8e-3, "use_8bit_optimizer": False}


def test_the_contract_names_the_components_that_there_are() -> None:
    assert set(get_args(ComponentName)) == set(COMPONENTS)


def test_a_component_may_have_a_learning_rate_of_its_own() -> None:
    model = make_xoron(components=frozenset({"llm", "fusion"}))
    ratios = {"fusion": 0.25, "audio_encoder": 0.5}
    config = TrainingConfig.parse({**PLAIN, "component_lr_ratios": ratios})
    groups = build_optimizer(model, config).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (8e-3, 0.01), (8e-3, 0.0), (2e-3, 0.01), (2e-3, 0.0),
    ]  # fmt: skip
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    grouped = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert all(name.startswith("llm.") for part in grouped[:2] for name in part)
    assert all(name.startswith("fusion.") for part in grouped[2:] for name in part)
    assert sorted(name for part in grouped for name in part) == sorted(names.values())
    assert "llm.model.embed_tokens.weight" in grouped[1]


EMBEDDED = {
    "llm.model.embed_tokens.weight",
    "vision_encoder.vision_model.embeddings.patch_embedding.weight",
    "vision_encoder.vision_model.embeddings.position_embedding.weight",
    "image_compressor.queries_QD",
    "image_projector.network.latents_MD",
    "video_projector.network.latents_MD",
    *(
        f"{generator}.time_embedding.{part}.weight"
        for generator in ("generator", "video_generator")
        for part in ("up_proj", "out_proj")
    ),
}
"""What has two axes at least and is embedded."""
SCALES = re.compile(r"waveform_decoder\..*snake.*\.log_(alpha|beta)_C1")


def test_of_every_component_matrices_decay_and_nothing_else() -> None:
    with torch.device("meta"):
        model = XoronMultimodalModel(resolve("demo").model, frozenset(COMPONENTS), vocab_size=300)
    found = {name for name, parameter in model.named_parameters() if decays(name, parameter)}
    wide = {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    scales = {name for name in wide if SCALES.fullmatch(name)}
    assert scales
    assert wide - found == EMBEDDED | scales
    assert found <= wide, "norms, biases and gates have one axis"
    kinds = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    for path, module in model.named_modules():
        if isinstance(module, kinds):
            assert not any(name.startswith(f"{path}.") for name in found), path
    assert {name.partition(".")[0] for name in found} == set(COMPONENTS)


def adapted() -> nn.Module:
    """An adapter's names around three layers."""
    adapter = nn.ModuleDict({
        "base_layer": nn.Linear(4, 4, bias=False).requires_grad_(requires_grad=False),
        "lora_A": nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)}),
        "lora_B": nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)}),
    })  # fmt: skip
    return nn.ModuleDict({"llm": nn.ModuleDict({"q_proj": adapter, "norm": nn.RMSNorm(4)})})


def test_the_second_matrix_of_an_adapter_learns_faster() -> None:
    model = adapted()
    config = TrainingConfig.parse({**PLAIN, "component_lr_ratios": {"llm": 0.5}})
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def groups(**lora: object) -> list[tuple[list[str], float, float]]:
        optimizer = build_optimizer(model, config, LoraConfig.parse(lora))
        return [([names[id(p)] for p in g["params"]], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]

    first, second = (f"llm.q_proj.lora_{part}.default.weight" for part in "AB")
    assert groups(use_lora=True, lora_plus_lr_ratio=8.0) == [
        ([], 8e-3, 0.01),
        ([], 8e-3, 0.0),
        ([first], 4e-3, 0.01),
        (["llm.norm.weight"], 4e-3, 0.0),
        ([second], 32e-3, 0.01),
    ]
    alike = [([], 8e-3, 0.01), ([], 8e-3, 0.0), ([first, second], 4e-3, 0.01), (["llm.norm.weight"], 4e-3, 0.0)]
    assert groups(use_lora=True, use_lora_plus=False) == alike
    assert groups() == alike

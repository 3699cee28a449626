"""What is said of memory, against what a pass really keeps and what an optimizer really holds."""

from typing import Any

import pytest
import torch
from support.small_models import VOCAB_SIZE, language_config, make_llm, random_ids, seeded, xoron_config
from torch import Tensor, nn

from xoron_core.contract.config.lora import LoraConfig
from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.presets import resolve_without_data
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.adapters.lora import add_adapters
from xoron_core.training.memory_estimate import activation_bytes, estimate_memory
from xoron_core.training.sizing import measure_model, meta_model, vocab_size_of
from xoron_core.training.trained_parameters import num_trained

WORDS = {"name": "words", "category": "document", "path": "words.jsonl"}
MANY = 256
"""Tokens: enough for what a pass keeps once, such as positions, to vanish."""


def kept_bytes(llm: nn.Module, num_tokens: int) -> int:
    """Memory of all that autograd keeps of a pass, weights left out."""
    kept: dict[int, int] = {}
    weights = {tensor.untyped_storage().data_ptr() for tensor in [*llm.parameters(), *llm.buffers()]}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = random_ids(1, num_tokens)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = llm(ids)  # held until all is counted: a freed address would be counted once for two
    assert output.hidden_states_BTD.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize(
    "shape",
    [
        {"moe_every": 0},
        {"moe_every": 1, "moe": MoeConfig(num_experts=4, top_k=2, num_shared_experts=1, expert_size=64)},
        {"moe_every": 2, "moe": MoeConfig(num_experts=4, top_k=1, num_shared_experts=0, expert_size=96)},
        {"attention": "gqa", "moe_every": 0, "num_kv_heads": 4, "head_dim": 16},
    ],
)
def test_activations_are_about_what_autograd_keeps(shape: dict[str, Any]) -> None:
    wide = {
        "hidden_size": 64,
        "intermediate_size": 160,
        "v_head_dim": 16,
        "num_layers": 4,
        "max_position_embeddings": 512,
    }
    llm = make_llm(**wide, **shape).train()
    told = activation_bytes(llm.config, MANY, kept=4, computed=4, is_recomputed=False)
    latent = llm.config.kv_lora_rank if llm.config.attention == "mla" else 0
    # norms on the CPU also keep what they scale, those of a GPU do not
    norms = llm.config.num_layers * (2 * llm.config.hidden_size + latent)
    assert kept_bytes(llm, MANY) == pytest.approx(told + 4 * MANY * norms, rel=0.03)


def test_recomputation_keeps_the_layers_inputs() -> None:
    config = language_config(num_layers=8)
    whole, less = (activation_bytes(config, MANY, kept=4, computed=2, is_recomputed=each) for each in (False, True))
    inputs = 8 * 4 * config.hidden_size * MANY
    assert inputs < less < inputs + whole / 4


@pytest.mark.parametrize(
    ("training", "weights", "states"),
    [
        ({"use_8bit_optimizer": False}, 4, 8),
        ({"use_8bit_optimizer": True}, 4, 2),
        ({"model_dtype": "float16", "use_8bit_optimizer": False}, 2, 12),
    ],
)
def test_bytes_of_weights_and_states(training: dict[str, Any], weights: int, states: float) -> None:
    config = resolve_without_data("demo", {"training": training})
    model = meta_model(config, vocab_size_of("demo"))
    told, trained = estimate_memory(config, model), num_trained(config, model)
    frozen = model.num_parameters()["autoencoder"]
    assert trained == sum(model.num_parameters().values()) - frozen
    assert told.gradients == 4 * trained  # float32, whatever the weights are
    assert told.optimizer == pytest.approx(states * trained, rel=0.02)
    assert told.weights == pytest.approx(weights * (trained + frozen), rel=0.01)
    assert told.total > told.weights + told.gradients + told.optimizer


@pytest.mark.parametrize("attention", ["mla", "gqa"])
@pytest.mark.parametrize(
    "lora", [{}, {"train_lora_only": True}, {"target_modules": ("q_proj", "v_proj"), "use_dora": True}]
)
def test_adapters_are_counted_before_they_exist(lora: dict[str, Any], attention: str) -> None:
    model = XoronMultimodalModel(xoron_config(attention=attention), frozenset({"llm"}), vocab_size=VOCAB_SIZE)
    adapters = LoraConfig(use_lora=True, r=4, **lora)
    config = resolve_without_data("demo", {"lora": adapters.to_dict(), "data": {"sources": [WORDS]}})
    told = num_trained(config, model)
    add_adapters(model, adapters, seeded())
    assert told == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_frozen_components_have_no_gradients() -> None:
    config = resolve_without_data("demo", {"training": {"frozen_components": ["llm", "vision_encoder"]}})
    model = meta_model(config, vocab_size_of("demo"))
    counts = model.num_parameters()
    left_out = counts["llm"] + counts["vision_encoder"] + counts["autoencoder"]
    assert num_trained(config, model) == sum(counts.values()) - left_out


def test_a_source_decides_what_is_built() -> None:
    size = measure_model(resolve_without_data("base", {"data": {"sources": [WORDS]}}))
    assert [component.name for component in size.components] == ["llm"]
    assert size.flops.training(is_recomputed=True) == size.training_flops

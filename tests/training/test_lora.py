"""Adapters on the language model: what they compute, what they leave alone, what they refuse."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapted_models import ATTENTION_TARGETS, adapted_model, logits, lora_config, plainly_adapted
from support.small_models import VOCAB_SIZE, make_xoron, random_ids, seeded
from torch import nn

from xoron_core.contract.errors import ConfigError
from xoron_core.contract.presets import resolve
from xoron_core.training.adapters.experts import AdaptedExperts
from xoron_core.training.adapters.lora import (
    adapted_layers,
    add_adapters,
    is_adapter,
    merge_adapters,
    remove_adapters,
    unmerge_adapters,
)
from xoron_core.training.adapters.targets import find_targets

DORA = {"use_dora": True}


@pytest.mark.parametrize("kind", ["mla", "gqa"])
@pytest.mark.parametrize("use_rslora", [True, False])
def test_adapters_add_their_scaled_product(kind: str, use_rslora: bool) -> None:
    lora = lora_config(use_rslora=use_rslora)
    model = adapted_model(lora, attention=kind)
    plain = plainly_adapted(model, lora, attention=kind)
    assert not torch.allclose(logits(make_xoron(0, frozenset({"llm"}), attention=kind).llm, random_ids(2, 9)),
                              logits(plain, random_ids(2, 9)), atol=0.1)  # fmt: skip
    torch.testing.assert_close(logits(model.llm, random_ids(2, 9)), logits(plain, random_ids(2, 9)))


@pytest.mark.parametrize("dora", [{}, DORA], ids=["lora", "dora"])
def test_new_adapters_change_nothing(dora: dict[str, Any]) -> None:
    model = adapted_model(lora_config(**dora), learned=False)
    plain = make_xoron(0, frozenset({"llm"})).eval()
    torch.testing.assert_close(logits(model.llm, random_ids(2, 9)), logits(plain.llm, random_ids(2, 9)))


def test_dora_learns_lengths_apart_from_directions() -> None:
    lora = lora_config(**DORA)
    layer = adapted_model(lora).llm.model.layers[0].attention.q_proj
    weight = (
        layer.base_layer.weight + lora.alpha / lora.r**0.5 * layer.lora_B.default.weight @ layer.lora_A.default.weight
    )
    weight = weight / weight.norm(dim=1, keepdim=True) * layer.lora_magnitude_vector.default.weight.unsqueeze(1)
    x = torch.randn(5, weight.shape[1], generator=seeded())
    torch.testing.assert_close(layer(x), x @ weight.T)


@pytest.mark.parametrize("changes", [{"attention": "mla"}, {"attention": "gqa"}, {"attention": "mla", **DORA}])
def test_cached_generation_equals_uncached(changes: dict[str, Any]) -> None:
    lora = lora_config(**{key: value for key, value in changes.items() if key == "use_dora"})
    llm = adapted_model(lora, attention=changes["attention"]).llm
    prompt = random_ids(2, 7)
    got = llm.generate(prompt, max_new_tokens=10, temperature=0.0)
    tokens = prompt
    for _ in range(10):
        best = logits(llm, tokens)[:, -1, :VOCAB_SIZE].argmax(-1, keepdim=True)
        tokens = torch.cat((tokens, best), dim=1)
    assert got.tolist() == tokens.tolist()


@pytest.mark.parametrize("dora", [{}, DORA], ids=["lora", "dora"])
def test_merged_equals_unmerged_and_comes_apart_again(dora: dict[str, Any]) -> None:
    model = adapted_model(lora_config(**dora))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = logits(model.llm, random_ids(2, 9))
    merge_adapters(model)
    merge_adapters(model)  # a second time does nothing
    torch.testing.assert_close(logits(model.llm, random_ids(2, 9)), expected)
    assert not torch.equal(
        model.state_dict()["llm.model.layers.0.attention.q_proj.base_layer.weight"],
        before["llm.model.layers.0.attention.q_proj.base_layer.weight"],
    )
    unmerge_adapters(model)
    unmerge_adapters(model)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=1e-6, atol=1e-6)

    merge_adapters(model)
    remove_adapters(model)
    plain = make_xoron(3, frozenset({"llm"})).eval()
    plain.load_state_dict(model.state_dict())  # the plain names
    torch.testing.assert_close(logits(plain.llm, random_ids(2, 9)), expected)


@pytest.mark.parametrize("kind", ["mla", "gqa"])
def test_what_has_an_adapter_is_frozen_and_the_rest_is_trained(kind: str) -> None:
    model = make_xoron(components=frozenset({"llm", "fusion"}), attention=kind)
    model.fusion.requires_grad_(requires_grad=False)
    add_adapters(model, lora_config(), seeded())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        is_adapted = ".base_layer." in name and not is_adapter(name)
        assert parameter.requires_grad is (not is_adapted and not name.startswith("fusion.")), name
    assert "llm.model.embed_tokens.weight" in trained
    adapted = sum(1 for _ in adapted_layers(model))
    # q, o and two or two more in each layer; three of the feed-forward, three of the shared expert; two of the experts
    assert adapted == 2 * 4 + 3 + 3 + 2


def test_only_adapters_are_trained_where_asked_for() -> None:
    model = make_xoron(components=frozenset({"llm", "fusion"}))
    add_adapters(model, lora_config(train_lora_only=True), seeded())
    assert all(parameter.requires_grad is is_adapter(name) for name, parameter in model.named_parameters())
    moe = next(iter(model.moe_layers().values()))
    moe.router.load_E.copy_(torch.arange(4.0))
    model.update_router_biases()
    assert moe.router.bias_E.count_nonzero() == 0, "a frozen router goes on moving"


def test_an_expert_may_have_an_adapter_on_one_of_its_weights() -> None:
    model = make_xoron(components=frozenset({"llm"}))
    add_adapters(model, lora_config(target_modules=("down_proj",)), seeded())
    weights = {name.rpartition(".")[2]: p.requires_grad for name, p in model.named_parameters() if "experts" in name}
    assert weights == {"gate_up_EDF": True, "down_EFD": False, "weight": True}
    logits(model.llm, random_ids(1, 4))


def test_a_seed_gives_the_same_adapters_whatever_was_drawn_before() -> None:
    models = []
    for seed in (5, 6):
        model = make_xoron(components=frozenset({"llm"}))
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        add_adapters(model, lora_config(), seeded())
        assert torch.equal(torch.get_rng_state(), state), "drawn from torch's own generator"
        models.append(model)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    drawn = first["llm.model.layers.0.attention.q_proj.lora_A.default.weight"]
    assert 0.5 < drawn.abs().max() * drawn.shape[1] ** 0.5 <= 1


def test_recomputed_layers_drop_out_the_same_inputs() -> None:
    grads = []
    for enabled in (False, True):
        model = adapted_model(lora_config(dropout=0.5)).train()
        model.gradient_checkpointing_enable(enabled)
        torch.manual_seed(7)
        tokens = random_ids(2, 9)
        model.llm(tokens, labels_BT=tokens).loss_sum.backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])
    assert all(name in grads[0] for name, _ in model.named_parameters() if is_adapter(name))


def test_under_autocast_experts_keep_what_rounding_would_lose() -> None:
    model = adapted_model(lora_config(), learned=False)
    layer = next(layer for layer in adapted_layers(model) if isinstance(layer, AdaptedExperts))
    layer.lora_B.experts.weight.data.fill_(1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = layer.adapted_weight()
    assert torch.equal(weight, layer.adapted_weight())
    assert weight.dtype == torch.float32


def test_a_model_in_half_precision_has_adapters_in_it() -> None:
    model = make_xoron(components=frozenset({"llm"})).half().eval()
    add_adapters(model, lora_config(), seeded())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert logits(model.llm, random_ids(1, 4)).dtype == torch.float16


@pytest.mark.parametrize(
    ("overrides", "field", "cure"),
    [
        ({"lora": {"use_lora": True, "use_dora": True}}, "lora.use_dora", "take gate_proj, up_proj and down_proj out"),
        ({"lora": {"use_lora": True, "target_modules": []}}, "lora", "name what adapters are to be on"),
        ({"lora": {"use_lora": True, "target_modules": ["qkv"]}}, "lora.target_modules.0", "'q_proj'"),
        ({"lora": {"use_lora": True, "r": 0}}, "lora.r", "greater than or equal to 1"),
        ({"lora": {"use_lora": True, "train_lora_only": True}}, "lora.train_lora_only", "modalities.tts.weight to 0"),
        (
            {
                "lora": {"use_lora": True, "train_lora_only": True},
                "modalities": {"tts": {"weight": 0}, "asr": {"asr_loss": "ctc"}},
            },
            "lora.train_lora_only",
            "modalities.asr.weight to 0",
        ),
    ],
)
def test_a_bad_combination_is_refused_with_its_cure(overrides: dict[str, Any], field: str, cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("demo", overrides)
    [problem] = caught.value.problems
    assert problem.field == field
    assert cure in problem.message


def test_dora_is_taken_where_no_expert_is_meant() -> None:
    named = {"use_lora": True, "use_dora": True, "target_modules": list(ATTENTION_TARGETS)}
    assert resolve("demo", {"lora": named}).lora.use_dora
    assert resolve("demo", {"lora": {"use_dora": True}}).lora.use_dora, "use_lora is false: nothing to refuse"
    resolve("demo", {"lora": {"use_lora": True, "use_dora": True}, "model": {"language": {"moe_every": 0}}})


def test_a_target_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lora\.target_modules: .*'k_proj' means; leave it out"):
        find_targets(nn.ModuleDict({"q_proj": nn.Linear(2, 2)}), lora_config(target_modules=("q_proj", "k_proj")))


def test_without_adapters_peft_is_not_loaded() -> None:
    """It takes seconds: only functions import it, or the one module that only a function imports."""
    heavy = ("peft", "xoron_core.training.adapters.experts")
    for path in sorted((Path(__file__).parents[2] / "xoron_core").rglob("*.py")):
        names: list[str] = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
        found = [name for name in names if name.startswith(heavy)]
        assert not found or path.name == "experts.py", f"{path} loads {found}"

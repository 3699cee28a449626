"""The whole model: components, tasks, initial weights, names that others rely on."""

from typing import Any

import pytest
import torch
from support.small_models import (
    TEXT_AND_IMAGES,
    VOCAB_SIZE,
    make_xoron,
    perturb,
    random_ids,
    seeded,
    small_autoencoder,
    xoron_config,
)

from xoron_core.contract.config.model import XoronConfig
from xoron_core.model.components import COMPONENTS
from xoron_core.model.flow import flow_target, interpolate
from xoron_core.model.xoron import XoronMultimodalModel


def test_only_named_components_are_built() -> None:
    model = make_xoron(components=frozenset({"llm"}))
    assert model.num_parameters().keys() == {"llm"}
    with pytest.raises(AttributeError, match=r"built without 'generator' \(components: llm\)"):
        _ = model.generator
    with pytest.raises(ValueError, match="unknown components decoder"):
        make_xoron(components=frozenset({"decoder"}))
    with pytest.raises(ValueError, match="generator needs autoencoder"):
        make_xoron(components=frozenset({"llm", "generator"}))


def test_every_component_is_built_in_its_default_size() -> None:
    """Without memory; and every parameter has an axis that a shard can be cut along."""
    with torch.device("meta"):
        model = XoronMultimodalModel(XoronConfig(), frozenset(COMPONENTS), vocab_size=151_700)
    assert sum(model.num_parameters().values()) > 1e9
    assert [name for name, parameter in model.named_parameters() if parameter.ndim == 0] == []


def test_tasks_run_through_one_entry() -> None:
    model = make_xoron(components=frozenset({"llm"}))

    def loss(model: XoronMultimodalModel, ids: torch.Tensor, *, factor: float) -> Any:
        return model.llm(ids, labels_BT=ids).loss_sum * factor

    model.register_task("text", loss)
    ids = random_ids(1, 6)
    torch.testing.assert_close(model("text", ids, factor=2.0), loss(model, ids, factor=2.0))
    with pytest.raises(ValueError, match="registered already"):
        model.register_task("text", loss)
    with pytest.raises(KeyError, match="no task 'image'; registered: text"):
        model("image")


def test_meta_construction_gives_the_same_model() -> None:
    direct = make_xoron(seed=4)
    with torch.device("meta"):
        late = XoronMultimodalModel(
            xoron_config(), TEXT_AND_IMAGES, vocab_size=VOCAB_SIZE, autoencoder_config=small_autoencoder()
        )
    late.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*late.parameters(), *late.buffers()):
            tensor.fill_(float("nan"))
    late.init_weights(seeded(4))
    pairs = [*zip(direct.parameters(), late.parameters(), strict=True)]
    pairs += [*zip(direct.buffers(), late.buffers(), strict=True)]
    assert all(torch.equal(a, b) for a, b in pairs)
    ids = random_ids(1, 6)
    assert torch.equal(direct.llm(ids).hidden_states_BTD, late.llm(ids).hidden_states_BTD)


def test_a_seed_decides_weights_and_components_do_not_disturb_each_other() -> None:
    first, other, alone = make_xoron(1), make_xoron(2), make_xoron(1, components=frozenset({"llm"}))
    assert not torch.equal(first.llm.model.embed_tokens.weight, other.llm.model.embed_tokens.weight)
    assert torch.equal(first.llm.model.embed_tokens.weight, alone.llm.model.embed_tokens.weight)


def image_loss(model: XoronMultimodalModel) -> torch.Tensor:
    images = torch.rand(2, 3, 32, 32, generator=seeded(1)) * 2 - 1
    latents = model.encode_images(images)
    assert not latents.requires_grad
    noise, t = torch.randn(latents.shape, generator=seeded(2)), torch.tensor([0.3, 0.8])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    states = model.encode_text(random_ids(2, 5), mask)
    # one prompt is dropped: the null prompt is learned too
    mask = mask & torch.tensor([[False], [True]])
    velocity = model.generator(interpolate(latents, noise, t), t, states, mask)
    return (velocity - flow_target(latents, noise)).square().mean()


@pytest.mark.parametrize("kind", ["mla", "gqa"])
def test_every_trained_parameter_gets_a_gradient(kind: str) -> None:
    model = make_xoron(attention=kind)
    perturb(model)
    ids = random_ids(4, 24)
    (model.llm(ids, labels_BT=ids).loss_sum + image_loss(model)).backward()
    silent = {
        name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or p.grad.abs().sum() == 0)
    }
    assert silent == set()
    assert all(p.grad is None for p in model.autoencoder.parameters())


def test_the_image_loss_reaches_the_language_model() -> None:
    model = make_xoron()
    perturb(model.generator)
    image_loss(model).backward()
    assert model.llm.model.embed_tokens.weight.grad is not None
    assert model.llm.model.embed_tokens.weight.grad.abs().sum() > 0


def test_padding_of_prompts_changes_no_state() -> None:
    model = make_xoron().eval()
    ids = random_ids(1, 3)
    padded = torch.cat((ids, torch.zeros(1, 4, dtype=torch.long)), dim=1)
    mask = torch.tensor([[True] * 3 + [False] * 4])
    torch.testing.assert_close(
        model.encode_text(padded, mask)[:, :3], model.encode_text(ids, torch.ones(1, 3, dtype=torch.bool))
    )


def test_the_frozen_autoencoder_stays_in_evaluation() -> None:
    model = make_xoron().train()
    assert model.llm.training and model.generator.training
    assert not model.autoencoder.training


def test_experts_are_named_by_component_and_layer() -> None:
    model = make_xoron()
    ids = random_ids(2, 8)
    model.llm(ids)
    model.update_router_biases()
    metrics = model.moe_metrics()
    assert metrics.keys() == {
        f"moe/{layer}/{name}" for layer in ("llm.1", "generator.0", "generator.1") for name in ("load_max", "entropy")
    }
    assert metrics["moe/llm.1/load_max"] >= 1
    assert model.moe_layers()["llm.1"].router.bias_E.abs().sum() > 0
    assert model.moe_layers()["generator.0"].router.bias_E.abs().sum() == 0


def test_router_biases_and_latent_statistics_are_part_of_a_checkpoint() -> None:
    model = make_xoron()
    names = model.state_dict().keys()
    assert "llm.model.layers.1.feed_forward.router.bias_E" in names
    assert "autoencoder.latent_std_C" in names
    assert "llm.model.layers.1.feed_forward.router.last_load_E" in names
    assert not any(name.endswith(".load_E") or "frequencies" in name for name in names)


def test_shapes_tell_what_decays() -> None:
    """The trainer lets only matrices decay, embeddings apart: norms and biases are 1-D, experts 3-D."""
    for name, parameter in make_xoron().named_parameters():
        if "norm" in name or name.endswith("bias"):
            assert parameter.ndim == 1, name
        if "experts.gate_up" in name or "experts.down" in name:
            assert parameter.ndim == 3, name

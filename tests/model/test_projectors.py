"""Encoder tokens to embeddings of the language model."""

from typing import Any, Literal

import pytest
import torch
from support.small_models import perturb, seeded
from torch import Tensor

from xoron_core.contract.config.vision import ProjectorConfig, nearly_square
from xoron_core.model.initialise import init_module
from xoron_core.model.vision.projectors import PerceiverResampler, Projector, SpatialMerge

Kind = Literal["perceiver", "mlp", "spatial"]
KINDS: tuple[Kind, ...] = ("perceiver", "mlp", "spatial")


def make_projector(kind: Kind, grid: tuple[int, int] = (2, 4)) -> Projector:
    config = ProjectorConfig(kind=kind, num_latents=5, num_layers=2, num_heads=4)
    projector = Projector(config, input_size=12, output_size=32, grid=grid, output_scale=0.02)
    init_module(projector, seeded())
    return projector


def tokens(count: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(3, count, 12, generator=seeded(seed))


@pytest.mark.parametrize(("kind", "count"), [("perceiver", 5), ("mlp", 16), ("spatial", 4)])
def test_the_number_of_embeddings_is_known_before(kind: Kind, count: int) -> None:
    projector = make_projector(kind)
    assert ProjectorConfig(kind=kind, num_latents=5).num_outputs(16, (2, 4)) == count
    assert projector(tokens(16)).shape == (3, count, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_as_large_as_those_of_tokens(kind: Kind) -> None:
    rms = make_projector(kind)(tokens()).square().mean(dim=-1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, 0.02), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient_and_every_token_is_read(kind: Kind) -> None:
    projector = make_projector(kind)
    perturb(projector)
    x = tokens().requires_grad_()
    output = projector(x)
    (output * torch.randn(output.shape, generator=seeded(2))).sum().backward()
    silent = [name for name, p in projector.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=2) > 0).all()


def test_spatial_merges_neighbours() -> None:
    """On a 3 × 4 grid, the last row is merged with zeros; frames do not mix."""
    merge = SpatialMerge(1, 4, (3, 4))
    seen: list[Tensor] = []
    merge.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    merge(torch.arange(24.0).view(1, 24, 1))
    neighbours = [sorted(cell) for cell in seen[0][0].tolist()]
    assert neighbours[:4] == [[0, 1, 4, 5], [2, 3, 6, 7], [0, 0, 8, 9], [0, 0, 10, 11]]
    assert neighbours[4] == [12, 13, 16, 17]
    assert ProjectorConfig(kind="spatial").num_outputs(24, (3, 4)) == 8


def test_tokens_that_fill_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="9 tokens fill no whole number of 2 × 4 grids"):
        ProjectorConfig(kind="spatial").num_outputs(9, (2, 4))


def test_latents_of_a_perceiver_differ() -> None:
    embeddings = make_projector("perceiver")(tokens())
    assert not torch.allclose(embeddings[:, 0], embeddings[:, 1], atol=1e-3)


def test_recomputed_activations_give_the_same_gradients() -> None:
    projector = make_projector("perceiver").train()
    gradients: list[list[Any]] = []
    for enabled in (False, True):
        projector.zero_grad()
        assert isinstance(projector.network, PerceiverResampler)
        projector.network.gradient_checkpointing_enable(enabled)
        projector(tokens())[0, 0].sum().backward()
        gradients.append([p.grad for p in projector.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize(("cells", "grid"), [(256, (16, 16)), (30, (5, 6)), (7, (1, 7)), (1, (1, 1))])
def test_grids_are_as_square_as_they_can_be(cells: int, grid: tuple[int, int]) -> None:
    assert nearly_square(cells) == grid

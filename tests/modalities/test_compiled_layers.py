"""Compiled layers compute what the others do, for every modality.

The compiler's front and its gradients are the real ones; that it also writes kernels is left out, which takes minutes.
"""

from collections.abc import Iterator

import pytest
import torch
from support.small_models import perturb
from support.workbench import Workbench, make_workbench
from torch._dynamo.utils import counters

from xoron_core.contract.modalities import modality_infos

NAMES = tuple(modality_infos())


@pytest.fixture(params=NAMES)
def bench(request: pytest.FixtureRequest) -> Iterator[Workbench]:
    torch._dynamo.reset()
    made = make_workbench(request.param)
    for component, module in made.model.named_children():
        if component != "waveform_decoder":
            perturb(module)
    made.model.train()
    yield made
    torch._dynamo.reset()


def gradients(bench: Workbench, num_rows: int) -> tuple[float, dict[str, torch.Tensor]]:
    bench.model.zero_grad()
    loss = bench.backward(bench.modality.collate(bench.rows(num_rows)))
    return loss, {name: p.grad.clone() for name, p in bench.model.named_parameters() if p.grad is not None}


def check_compiled(bench: Workbench, *, recomputes: bool) -> None:
    expected = {rows: gradients(bench, rows) for rows in (2, 3)}
    bench.model.compile_layers(backend="aot_eager")
    if recomputes:
        bench.model.gradient_checkpointing_enable()
    counters.clear()
    for rows, (loss, plain) in expected.items():
        found_loss, found = gradients(bench, rows)
        assert found_loss == pytest.approx(loss, rel=1e-5)
        assert found.keys() == plain.keys()
        scale = max(float(gradient.abs().max()) for gradient in plain.values())
        for name, gradient in plain.items():
            assert float((gradient - found[name]).abs().max()) <= 1e-5 * scale, name
    assert counters["frames"]["ok"] > 0
    assert not counters["unimplemented"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_losses_and_gradients_are_the_same(bench: Workbench) -> None:
    check_compiled(bench, recomputes=False)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("bench", ["text"], indirect=True)
def test_what_is_compiled_can_be_recomputed(bench: Workbench) -> None:
    check_compiled(bench, recomputes=True)


@pytest.mark.parametrize("bench", ["image_understanding"], indirect=True)
def test_only_the_components_that_are_named_are_compiled(bench: Workbench) -> None:
    """By a compiler that does not exist: what is handed to it fails."""
    bench.model.compile_layers({"fusion"}, backend="no_such_backend")
    bench.model.vision_encoder.run_layer(torch.nn.Identity(), torch.ones(1))
    with pytest.raises(Exception, match="no_such_backend"):
        bench.model.fusion.run_layer(torch.nn.Identity(), torch.ones(1))
    bench.model.eval()
    bench.model.fusion.run_layer(torch.nn.Identity(), torch.ones(1))

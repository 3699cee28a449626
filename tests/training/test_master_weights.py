"""AdamW with float32 masters of float16 weights."""

from typing import Any

import pytest
import torch
from support.small_models import make_xoron, random_ids
from torch import nn
from torch.nn import Parameter
from torch.optim import AdamW

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.training.master_weights import MasterAdamW
from xoron_core.training.metrics import MetricWindow
from xoron_core.training.optimizer import build_optimizer
from xoron_core.training.precision import keep_weights_in
from xoron_core.training.schedule import build_scheduler
from xoron_core.training.snapshot import Snapshot
from xoron_core.training.state import TrainerState

CONFIG = TrainingConfig.parse({"model_dtype": "float16", "use_8bit_optimizer": False, "learning_rate": 1e-3})


def half(values: list[float]) -> Parameter:
    return Parameter(torch.tensor(values, dtype=torch.float16))


def masters_of(parameter: Parameter, **options: Any) -> MasterAdamW:
    return MasterAdamW([{"params": [parameter], **options}], lr=1e-5, betas=(0.9, 0.95))


def test_steps_smaller_than_the_spacing_of_float16_add_up() -> None:
    weight = half([1.0, -2.0])
    optimizer = masters_of(weight, weight_decay=0.0)
    for _ in range(200):
        (weight.float() * torch.tensor([1.0, -1.0])).sum().backward()
        before = weight.detach().clone()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(weight, optimizer.state[weight]["master"].half())
    torch.testing.assert_close(optimizer.state[weight]["master"], torch.tensor([0.998, -1.998]), rtol=0, atol=1e-5)
    assert torch.equal(weight, before), "one step alone is below the spacing"


def test_it_steps_as_float32_weights_would() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = Parameter(torch.randn((5, 3), generator=generator).half())
    plain = Parameter(weight.detach().float())
    groups = {"weight_decay": 0.1, "lr": 3e-3}
    low, full = masters_of(weight, **groups), AdamW([{"params": [plain], **groups}], betas=(0.9, 0.95), fused=True)
    for _ in range(5):
        gradient = torch.randn((5, 3), generator=generator)
        weight.grad, plain.grad = gradient, gradient.clone()
        low.step()
        full.step()
    assert torch.equal(low.state[weight]["master"], plain)
    assert torch.equal(weight, plain.half())
    assert {name: value.dtype for name, value in low.state[weight].items()} == dict.fromkeys(
        ("step", "exp_avg", "exp_avg_sq", "master"), torch.float32
    )


def test_small_gradients_add_up_in_float32() -> None:
    weight = half([1.0])
    masters_of(weight)
    for factor in (1.0, *[2.0**-13] * 8):  # float16 cannot tell 1 from 1 + 2^-13
        (weight * factor).sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert float(weight.grad) == 1.0 + 2.0**-10


def test_a_parameter_without_gradient_has_no_state_and_stays() -> None:
    moved, still = half([1.0]), half([1.0])
    optimizer = MasterAdamW([{"params": [moved, still]}], lr=0.1, betas=(0.9, 0.95))
    moved.sum().backward()
    optimizer.step()
    assert set(optimizer.state) == {moved}
    assert still.item() == 1.0 != moved.item()


def snapshot() -> Snapshot:
    model = make_xoron(components=frozenset({"llm"}))
    keep_weights_in(model, torch.float16)
    optimizer = build_optimizer(model, CONFIG)
    state = TrainerState(data={"drawn": {}, "bad": {}, "skipped": {}})
    return Snapshot(model, optimizer, build_scheduler(optimizer, 10, CONFIG), state, None, MetricWindow())


def step(part: Snapshot, seed: int) -> None:
    model: Any = part.model
    ids = random_ids(2, 12, seed)
    with torch.autocast("cpu", dtype=torch.float16):
        model.llm(ids, labels_BT=ids).loss_sum.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    part.optimizer.step()
    part.scheduler.step()
    part.optimizer.zero_grad()


def test_a_snapshot_brings_masters_and_moments_back_bit_for_bit() -> None:
    first, second = snapshot(), snapshot()
    for seed in range(3):
        step(first, seed)
    content = first.take("")
    masters = {name for name in content.tensors["optimizer"] if name.endswith("/master")}
    assert masters == {f"{name}/master" for name, _ in first.model.named_parameters()}
    second.restore(content)
    for seed in (3, 4):
        step(first, seed)
        step(second, seed)
    theirs, mine = first.take(""), second.take("")
    for part in ("model", "optimizer"):
        assert all(torch.equal(mine.tensors[part][name], tensor) for name, tensor in theirs.tensors[part].items())


def test_torch_alone_would_round_the_state() -> None:
    """Why `load_state_dict` is its own."""
    weight, other = half([1.0]), half([1.0])
    optimizer, loaded = masters_of(weight), masters_of(other)
    weight.grad = torch.tensor([1e-5])
    optimizer.step()
    loaded.load_state_dict(optimizer.state_dict())
    assert all(torch.equal(loaded.state[other][name], value) for name, value in optimizer.state[weight].items())
    rounded = optimizer.state[weight]["exp_avg_sq"].half()
    assert float(rounded) == 0.0 < float(loaded.state[other]["exp_avg_sq"])


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_are_cleared(set_to_none: bool) -> None:
    weight = half([1.0])
    optimizer = masters_of(weight)
    weight.sum().backward()
    optimizer.zero_grad(set_to_none=set_to_none)
    assert (weight.grad is None) is set_to_none
    weight.sum().backward()
    assert weight.grad is not None
    assert float(weight.grad) == 1.0

"""What a receipt says was restored stands in memory to the last bit; what it cannot say is called by its name."""

import json
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from xoron_core.contract.errors import CheckpointError
from xoron_core.training.checkpoint import CheckpointContent
from xoron_core.training.digest import Part
from xoron_core.training.metrics import MetricWindow
from xoron_core.training.snapshot import Snapshot
from xoron_core.training.state import TrainerState


def snapshot(steps: int = 0, scaler: GradScaler | None = None, schedule: type[LambdaLR] = LambdaLR) -> Snapshot:
    """Of a small trainer after so many steps."""
    torch.manual_seed(steps)
    model = nn.Linear(3, 2)
    optimizer = AdamW(model.parameters(), lr=0.1)
    scheduler = schedule(optimizer, lambda step: 1 / (1 + step))
    state, metrics = TrainerState(), MetricWindow()
    for step in range(steps):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        metrics.add_value("train/loss", torch.tensor(math.nan if step else 0.1))
        state.step += 1
        state.best_loss = 0.1 + 0.2
    return Snapshot(model, optimizer, scheduler, state, scaler, metrics)


def saved(steps: int = 3, scaler: GradScaler | None = None, **trainer: Any) -> CheckpointContent:
    """What a checkpoint gives back."""
    taken = snapshot(steps, scaler).take("")
    tensors = {name: {key: tensor.clone() for key, tensor in named.items()} for name, named in taken.tensors.items()}
    state = json.loads(json.dumps(taken.state))
    state["trainer"] |= trainer
    return CheckpointContent(tensors, state, "")


def test_every_field_is_restored_and_has_the_hash_of_what_was_saved() -> None:
    content, mine = saved(), snapshot()
    calls: list[int] = []
    receipt = mine.restore(content, lambda: calls.append(1))
    assert receipt.missing == receipt.reset == []
    assert {
        "model",
        "optimizer",
        "scheduler",
        "step",
        "epoch",
        "best_loss",
        "metrics",
        "rng.cpu",
    } <= receipt.hashes.keys()
    assert list(receipt.hashes) == receipt.restored
    assert receipt.hashes == snapshot().restore(saved()).hashes
    assert receipt.hashes["best_loss"] == Part(plain=0.1 + 0.2).digest()
    other = snapshot().restore(saved(4)).hashes
    assert all(other[name] != receipt.hashes[name] for name in ("model", "optimizer", "scheduler", "step", "metrics"))
    assert calls, "somebody waits for a sign of life meanwhile"


def test_what_an_earlier_version_did_not_save_is_missing() -> None:
    content = saved()
    del content.state["trainer"]["owes_samples"]
    receipt = snapshot().restore(content)
    assert receipt.missing == ["owes_samples"]
    assert "owes_samples" not in receipt.restored


def test_a_scaler_is_restored_missing_or_of_no_use() -> None:
    assert "scaler" in snapshot(scaler=GradScaler("cpu")).restore(saved(scaler=GradScaler("cpu"))).restored
    assert snapshot(scaler=GradScaler("cpu")).restore(saved()).missing == ["scaler"]
    assert snapshot().restore(saved(scaler=GradScaler("cpu"))).reset == ["scaler"]


class Forgetful(LambdaLR):
    """Does not take over where it was."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "last_epoch": 0})


def test_a_field_that_does_not_come_back_is_an_error_that_names_it() -> None:
    with pytest.raises(CheckpointError, match="scheduler does not stand in memory as the checkpoint has it"):
        snapshot(schedule=Forgetful).restore(saved())


def test_a_place_in_data_that_are_laid_out_otherwise_is_told() -> None:
    receipt = snapshot().restore(saved(data={"lanes": [1, 2]}))
    receipt.note_data({"lanes": [1, 2]}, {"lanes": (1, 2)})
    assert receipt.reset == []
    receipt.note_data({"lanes": [1, 2]}, {"lanes": [1, 0]})
    assert receipt.reset == ["data.windows"]
    assert receipt.hashes["data"] == Part(plain={"lanes": [1, 0]}).digest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.bool, torch.int64])
def test_one_bit_makes_another_digest(dtype: torch.dtype) -> None:
    one = Part({"a": torch.zeros(5, dtype=dtype), "b": torch.zeros(0), "c": torch.tensor(2.0)}, {"x": [1, None]})
    assert one.equals(one)
    values = torch.zeros(5, dtype=dtype)
    values.view(torch.uint8)[0] = 1
    others = [
        Part({**one.tensors, "a": values}, one.plain),
        Part({**one.tensors, "a": torch.zeros(5, 1, dtype=dtype)}, one.plain),
        Part({**one.tensors, "a": torch.zeros(6, dtype=dtype)}, one.plain),
        Part(one.tensors, {"x": [1, 0]}),
        Part({"a": one.tensors["a"]}, one.plain),
    ]
    assert len({one.digest(), *(other.digest() for other in others)}) == 6
    assert not any(one.equals(other) for other in others)


def test_the_order_of_names_and_where_a_tensor_lies_change_nothing() -> None:
    table = torch.arange(6.0).reshape(2, 3)
    one = Part({"a": table.T, "b": table}, {"x": 1, "y": 2})
    other = Part({"b": table.clone(), "a": table.T.contiguous()}, {"y": 2, "x": 1})
    assert one.digest() == other.digest()
    assert one.equals(other)


def test_values_that_are_not_numbers_are_equal_to_themselves() -> None:
    assert Part({"a": torch.tensor([math.nan])}, [math.nan]).equals(Part({"a": torch.tensor([math.nan])}, [math.nan]))
    assert not Part({"a": torch.tensor(0.0)}).equals(Part({"a": torch.tensor(-0.0)}))

"""The course of the learning rate."""

import pytest

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.training.schedule import lr_factor


@pytest.mark.parametrize(
    ("kind", "half_way", "end"), [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1.0, 1.0)]
)
def test_warm_up_then_the_shape_asked_for(kind: str, half_way: float, end: float) -> None:
    config = TrainingConfig.parse({"lr_schedule": kind, "warmup_ratio": 0.1, "min_lr_ratio": 0.1})
    factors = [lr_factor(step, 100, config) for step in range(121)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(half_way)
    assert factors[100] == factors[120] == pytest.approx(end)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert lr_factor(0, 100, TrainingConfig.parse({"warmup_ratio": 0.0})) == 1.0

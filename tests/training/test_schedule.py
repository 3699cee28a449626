"""The course of the learning rate."""

import pytest

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import ConfigError
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


def test_wsd_stays_at_the_peak_and_falls_linearly_at_the_end() -> None:
    config = TrainingConfig.parse({"lr_schedule": "wsd", "warmup_ratio": 0.1, "decay_ratio": 0.25, "min_lr_ratio": 0.2})
    factors = [lr_factor(step, 100, config) for step in range(121)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10:76] == [1.0] * 66
    assert factors[75:101] == pytest.approx([1 - 0.8 * step / 25 for step in range(26)])
    assert factors[100:] == pytest.approx([0.2] * 21)


def test_wsd_may_have_no_stable_part_but_no_overlap() -> None:
    config = TrainingConfig.parse({"lr_schedule": "wsd", "warmup_ratio": 0.5, "decay_ratio": 0.5})
    assert [lr_factor(step, 4, config) for step in range(5)] == [0.5, 1.0, 1.0, 0.5, 0.0]
    with pytest.raises(ConfigError, match=r"decay_ratio: training\.warmup_ratio 0\.6 and training\.decay_ratio 0\.5"):
        TrainingConfig.parse({"lr_schedule": "wsd", "warmup_ratio": 0.6, "decay_ratio": 0.5})
    assert TrainingConfig.parse({"lr_schedule": "cosine", "warmup_ratio": 0.6, "decay_ratio": 0.5}).decay_ratio == 0.5

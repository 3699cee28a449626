"""The trouble policy: what follows a failed attempt."""

from typing import Any

import pytest

from server.runs.keeping.recovery import FailedAttempt, GiveUp, Recovery, recover
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.presets import resolve


def config(**trouble: Any) -> RunConfig:
    return resolve("demo", {"trouble": trouble})


def failed(failure: Failure, step: int = 10, *, cause: Failure | None = None, **more: Any) -> FailedAttempt:
    return FailedAttempt(1, cause, failure, step, more.pop("start_step", 0), "it broke", **more)


def test_a_crash_is_restarted_with_growing_delays_up_to_a_count() -> None:
    settings = config(max_restarts=2, restart_delay_s=3.0)
    first = recover(settings, [failed(Failure.CRASH, 10)])
    second = recover(settings, [failed(Failure.CRASH, 10), failed(Failure.CRASH, 12)])
    third = recover(settings, [failed(Failure.CRASH, step) for step in (10, 12, 14)])
    assert isinstance(first, Recovery)
    assert isinstance(second, Recovery)
    assert (first.delay_s, second.delay_s) == (3.0, 6.0)
    assert "1 of 2" in first.reason
    assert isinstance(third, GiveUp)
    assert "trouble.max_restarts" in third.reason


def test_the_same_failure_at_the_same_step_is_not_retried_again() -> None:
    line = [failed(Failure.CRASH, 10), failed(Failure.CRASH, 10)]
    assert isinstance(recover(config(), line[:1]), Recovery)
    assert isinstance(recover(config(), line), GiveUp)
    assert isinstance(recover(config(), [failed(Failure.HANG, 10), failed(Failure.CRASH, 10)]), Recovery)


def test_a_run_that_never_made_a_step_is_not_restarted() -> None:
    assert isinstance(recover(config(), [failed(Failure.CRASH, 0)]), GiveUp)
    assert isinstance(recover(config(), [failed(Failure.CRASH, 5, start_step=5)]), GiveUp)
    line = [failed(Failure.CRASH, 9), failed(Failure.CRASH, 5, start_step=5, cause=Failure.CRASH)]
    assert isinstance(recover(config(), line), Recovery), "it did step before: this may pass"


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.GPU_LOST])
def test_what_no_restart_would_change(failure: Failure) -> None:
    assert isinstance(recover(config(), [failed(failure)]), GiveUp)


def batches(text: int | None, pictures: int, default: int = 1, accumulation: int = 2) -> RunConfig:
    """A run of two modalities with micro-batches of these sizes; None: as `training.batch_size` says."""
    sizes = {"text": {"batch_size": text}, "image_generation": {"batch_size": pictures}}
    others = {name: {"weight": 0} for name in resolve("demo").modality_weights() if name not in sizes}
    training = {"gradient_accumulation_steps": accumulation, "batch_size": default}
    return resolve("demo", {"training": training, "modalities": sizes | others})


@pytest.mark.parametrize(
    ("sizes", "smaller", "accumulation", "told"),
    [
        ((4, 8), (2, 4), 4, "half the micro-batch, accumulated twice as often (1 of 4)"),
        ((3, 9), (1, 3), 6, "1/3 of the micro-batch, accumulated 3 times as often (1 of 4)"),
        ((3, 5), (1, 2), 4, "in rows a step: modalities.text.batch_size 6 → 4, modalities.image_generation.batch_size"),
        ((1, 4), (1, 2), 4, "in rows a step: modalities.text.batch_size 2 → 4"),
    ],
)
def test_out_of_memory_makes_micro_batches_smaller_and_tells_where_the_global_batch_changes(
    sizes: tuple[int, int], smaller: tuple[int, int], accumulation: int, told: str
) -> None:
    settings = batches(*sizes)
    after = recover(settings, [failed(Failure.OUT_OF_MEMORY, 0)])
    assert isinstance(after, Recovery)
    changed = RunConfig.parse(merge(settings.to_dict(), dict(after.config)))
    assert changed.training.gradient_accumulation_steps == accumulation
    assert (changed.modalities.text.batch_size, changed.modalities.image_generation.batch_size) == smaller
    assert changed.training.batch_size == settings.training.batch_size, "no modality has that size"
    assert told in after.reason
    is_kept = all(new * accumulation == old * 2 for old, new in zip(sizes, smaller, strict=True))
    assert ("the global batch changes" in after.reason) is not is_kept


def test_out_of_memory_counts_the_size_that_modalities_share() -> None:
    after = recover(batches(None, 6, default=4), [failed(Failure.OUT_OF_MEMORY)])
    assert isinstance(after, Recovery)
    assert after.config["training"] == {"batch_size": 2, "gradient_accumulation_steps": 4}
    assert after.config["modalities"] == {"image_generation": {"batch_size": 3}}


def test_single_rows_cannot_be_halved() -> None:
    assert isinstance(recover(batches(1, 1, default=4), [failed(Failure.OUT_OF_MEMORY)]), GiveUp)


def test_memory_may_run_out_at_the_same_step_again() -> None:
    line = [failed(Failure.OUT_OF_MEMORY, 3)] * 2
    assert isinstance(recover(config(), line), Recovery)
    assert isinstance(recover(config(max_memory_retries=1), line), GiveUp)


def test_a_rollback_goes_before_the_bad_steps_and_leaves_their_samples_out() -> None:
    after = recover(config(), [failed(Failure.NON_FINITE, 10, bad_since_step=8, bad_samples=["a[1]", "a[2]"])])
    assert isinstance(after, Recovery)
    assert (after.before_step, list(after.skip)) == (8, ["a[1]", "a[2]"])


def test_a_damaged_checkpoint_is_passed_over() -> None:
    after = recover(config(), [failed(Failure.DAMAGED_CHECKPOINT, 20, start_step=20)])
    assert isinstance(after, Recovery)
    assert after.before_step == 20


@pytest.mark.parametrize(
    ("field", "failure"),
    [
        ("max_restarts", "crash"),
        ("max_hangs", "hang"),
        ("max_rollbacks", "non_finite"),
        ("max_memory_retries", "out_of_memory"),
    ],
)
def test_a_count_of_zero_means_never(field: str, failure: str) -> None:
    after = recover(config(**{field: 0}), [failed(Failure(failure))])
    assert isinstance(after, GiveUp)
    assert f"trouble.{field}" in after.reason

"""The trouble policy: what follows a failed attempt."""

from typing import Any

import pytest

from server.runs.keeping.recovery import FailedAttempt, GiveUp, Recovery, recover
from xoron_core.contract.config.run import RunConfig
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


def test_out_of_memory_halves_every_micro_batch_and_keeps_the_global_batch() -> None:
    settings = resolve("demo", {"training": {"gradient_accumulation_steps": 2, "batch_size": 4}})
    after = recover(settings, [failed(Failure.OUT_OF_MEMORY, 0)])
    assert isinstance(after, Recovery)
    assert after.config["training"] == {"batch_size": 2, "gradient_accumulation_steps": 4}
    for name in settings.modality_weights():
        before = settings.modalities.get(name).batch_size
        if before is not None:
            assert after.config["modalities"][name]["batch_size"] * 2 == before
    rows = {name: {"batch_size": 1} for name in settings.modality_weights()}
    single = resolve("demo", {"training": {"batch_size": 1}, "modalities": rows})
    assert isinstance(recover(single, [failed(Failure.OUT_OF_MEMORY)]), GiveUp)


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

"""What follows a failure: half the memory, a step back, a pause before another try, and an end to trying."""

import pytest
from support.course import Undisturbed, course_of, of_kind, phases, story
from support.fault_bench import STEPS, FaultBench, wait_end
from support.faulty_trainer import Fault

from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.run_directory import RunDirectory, attempt_config
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Collator
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training.build import build_dataset

pytestmark = pytest.mark.timeout(600)


def samples_of_step(config: RunConfig, step: int) -> tuple[str, ...]:
    """What a run trains on in that step."""
    modalities = enabled_modalities(config, Tokenizer.load(config.model.tokenizer))
    dataset, collate = build_dataset(config, modalities), Collator(modalities)
    batches = (collate(micro) for micro in dataset)
    found = [next(batches).sample_ids for _ in range(step)][-1]
    dataset.close()
    return found


def seconds_between(run: RunDirectory, attempt: int) -> float:
    """From an attempt's failure to the start of the next."""
    failed, started = (
        next(told for told in of_kind(run, "state") if (told["attempt"], told["state"]) == which)
        for which in ((attempt, "recovering"), (attempt + 1, "starting"))
    )
    return (clock.parse_time(started["time"]) - clock.parse_time(failed["time"])).total_seconds()


@pytest.mark.slow
def test_crashes_are_followed_by_longer_and_longer_pauses_and_in_the_end_by_none(bench: FaultBench) -> None:
    with bench.serve() as server:
        crashes = [Fault("crash", step=5 * attempt + 2, attempts=(attempt,)) for attempt in (1, 2, 3)]
        run = bench.create(server, *crashes, restart_delay_s=1.0, max_restarts=2)
        row = wait_end(server, run, "failed")
        assert "trouble.max_restarts" in row["trouble"]["reason"]
        assert "the loss went to the moon" in row["reason"]
        assert story(run) == ["started → crash", "crash → crash", "crash → crash"]
        assert [end.step for end in run.exits().attempts] == [6, 11, 16]  # the last that were done
        assert [record["step"] for record in of_kind(run, "receipt")] == [5, 10]
        assert 1.0 <= seconds_between(run, 1) < 2.0 <= seconds_between(run, 2)
        assert "backing_off" in phases(run, 1)
        assert list(course_of(run)) == list(range(1, 17))


@pytest.mark.slow
def test_the_same_failure_at_the_same_step_is_not_tried_a_third_time(bench: FaultBench) -> None:
    with bench.serve() as server:
        run = bench.create(server, Fault("crash", step=7, attempts=()), max_restarts=5)
        row = wait_end(server, run, "failed")
        assert "the same way at step 6" in row["trouble"]["reason"]
        assert [told["action"] for told in of_kind(run, "trouble")] == ["restart", "none"]
        assert story(run) == ["started → crash", "crash → crash"]


@pytest.mark.slow
def test_when_memory_runs_out_the_next_attempt_takes_half_the_rows_twice_as_often(
    bench: FaultBench, undisturbed: Undisturbed
) -> None:
    with bench.serve() as server:
        run = bench.create(server, Fault("out of memory", step=8, rows=1, attempts=()))
        wait_end(server, run, "completed")
        assert story(run) == ["started → out_of_memory", "out_of_memory → completed"]
        before, after = (attempt_config(run.attempt(attempt)) for attempt in (1, 2))
        assert (before.modalities.text.batch_size, after.modalities.text.batch_size) == (2, 1)
        accumulated = (before.training.gradient_accumulation_steps, after.training.gradient_accumulation_steps)
        assert accumulated == (1, 2)
        receipt = of_kind(run, "receipt")[0]
        assert (receipt["step"], receipt["missing"]) == (5, [])
        told = of_kind(run, "trouble")[0]
        assert told["failure"] == "out_of_memory"
        assert "modalities.text.batch_size 2 → 1" in told["reason"]
        course = course_of(run)
        assert list(course) == list(range(1, STEPS + 1))
        assert all(course[step] == undisturbed.course[step] for step in range(1, 6))
        for step in range(6, STEPS + 1):  # as many rows, of the same documents, in other company
            assert course[step]["data/text/micro_batches"] == 2 * step - 5
            assert course[step]["train/loss"] < course[1]["train/loss"]


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_gone_back_before_and_its_samples_are_left_out(
    bench: FaultBench, undisturbed: Undisturbed
) -> None:
    with bench.serve() as server:
        run = bench.create(server, config={"training": {"max_steps": 1}})
        wait_end(server, run, "completed")
        bad = samples_of_step(run.config(), 12)
        run = bench.create(
            server, Fault("nan", samples=bad[:1], attempts=()), config={"training": {"max_nonfinite": 0}}
        )
        wait_end(server, run, "completed")
        assert story(run) == ["started → non_finite", "non_finite → completed"]
        assert of_kind(run, "receipt")[0]["step"] == 10
        assert set(run.attempt(2).skip) == set(bad)
        rollback, *skips = of_kind(run, "trouble")
        assert (rollback["action"], rollback["failure"]) == ("rollback", "non_finite")
        assert {(told["action"], told["reason"].split()[0]) for told in skips} == {("skip", one) for one in bad}
        course = course_of(run)
        assert list(course) == list(range(1, STEPS + 1))
        assert all(course[step] == undisturbed.course[step] for step in range(1, 11))  # up to the checkpoint
        assert course[STEPS]["data/skipped_samples"] == len(bad)
        assert all(value is not None for values in course.values() for value in values.values())

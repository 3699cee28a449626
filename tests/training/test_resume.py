"""A resumed run equals one that was never stopped, bit for bit."""

import json
import random
import shutil
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.runs import events
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract import clock
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.contract.sources import demo_corpus
from xoron_core.contract.writer import EventWriter
from xoron_core.training.build import build_trainer
from xoron_core.training.checkpoint import complete_checkpoints, read_checkpoint
from xoron_core.training.control import Control, EndRequest
from xoron_core.training.digest import Part
from xoron_core.training.hooks import Hook, standard_hooks
from xoron_core.training.process import run_attempt
from xoron_core.training.state import TrainerState
from xoron_core.training.trainer import XoronTrainer

STEPS = 14
EVAL_STEPS = 6
EVALUATED = {"eval/text/loss", "eval/image_generation/loss"}


class StopInside(Hook):
    """Asks to end after step 5."""

    def __init__(self, control: Control) -> None:
        self.control = control

    def after_step(self, trainer: XoronTrainer) -> None:
        if trainer.global_step == 5:
            self.control.request_end(EndRequest(CommandKind.STOP, save=True, reason="a test"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def config_of(corpus: Path, **changes: Any) -> RunConfig:
    return tiny_config(corpus, **{"max_steps": STEPS, "eval_steps": 5, **changes})


def train(run: RunDirectory, config: RunConfig, attempt: int, checkpoint: str | None = None) -> int:
    record = AttemptRecord(
        attempt=attempt, reason="test", created_at=clock.now(), checkpoint=checkpoint, config=config.to_dict()
    )
    run.write_attempt(record)
    return run_attempt(run, attempt)


def new_run(home: Path, config: RunConfig) -> RunDirectory:
    return RunDirectory.create(home, new_record("a test"), config)


def losses(run: RunDirectory, attempt: int) -> dict[int, dict[str, float]]:
    """Losses and gradient norm by step, evaluations under the same step."""
    found: dict[int, dict[str, float]] = {}
    for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["kind"] in {"metrics", "eval"} and event["attempt"] == attempt:
            kept = {k: v for k, v in event["values"].items() if not k.startswith(("speed/", "memory/"))}
            found.setdefault(event["step"], {}).update(kept)
    return found


@pytest.fixture(
    scope="module",
    params=[{"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 3}, {"logging_steps": 4}],
    ids=["accumulation 1", "accumulation 3", "logging every 4 steps"],
)
def undisturbed(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = config_of(corpus, eval_steps=EVAL_STEPS, **request.param)
    run = new_run(tmp_path_factory.mktemp("undisturbed"), config)
    assert train(run, config, 1) == ExitCode.COMPLETED
    return config, run


def ends_of_epochs(run: RunDirectory) -> list[int]:
    found = []
    state = read_checkpoint(run.checkpoint_dir(STEPS)).state
    assert state["trainer"]["epoch"] >= 1, "the corpus is too large: no epoch ends within the run"
    for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["kind"] == "eval" and event["step"] % EVAL_STEPS:
            found.append(event["step"])  # evaluations beside the regular ones are those of epochs' ends
    return found


@pytest.mark.parametrize("where", ["2", "7", "epoch"])
def test_every_later_loss_is_that_of_a_run_never_stopped(undisturbed: Any, where: str, tmp_path: Path) -> None:
    config, reference = undisturbed
    stop_at = next(step for step in ends_of_epochs(reference) if step < STEPS) if where == "epoch" else int(where)
    run = new_run(tmp_path, config)
    saving = config.training.model_copy(update={"save_steps": stop_at})
    keeping = config.checkpoint.model_copy(update={"keep_last": STEPS})
    first = config.model_copy(update={"training": saving, "checkpoint": keeping})
    assert train(run, first, 1) == ExitCode.COMPLETED
    assert train(run, config, 2, f"checkpoints/step-{stop_at:08d}") == ExitCode.COMPLETED

    expected = {step: values for step, values in losses(reference, 1).items() if step > stop_at}
    resumed = losses(run, 2)
    assert resumed.keys() == expected.keys()
    for step, values in expected.items():
        assert resumed[step] == values, f"step {step}"
    mine, theirs = (read_checkpoint(r.checkpoint_dir(STEPS)) for r in (run, reference))
    for name in ("model", "optimizer", "rng"):
        assert all(torch.equal(mine.tensors[name][key], theirs.tensors[name][key]) for key in theirs.tensors[name])
    assert mine.state == theirs.state


@pytest.mark.slow
def test_it_does_not_matter_after_which_step(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, eval_steps=EVAL_STEPS, gradient_accumulation_steps=2, logging_steps=3)
    reference = new_run(tmp_path / "reference", config)
    train_here(reference, config)
    for step in range(1, STEPS):
        run = new_run(tmp_path / str(step), config)
        train_here(run, config, StopAfter(step))
        train_here(run, config, attempt=2, checkpoint=run.checkpoint_dir(step))
        assert_same_end(run, reference)


class StopAfter(Hook):
    """Asks to end after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, trainer: XoronTrainer) -> None:
        if trainer.global_step == self.step:
            trainer.control.request_end(EndRequest(CommandKind.STOP, save=True, reason="a test"))


def train_here(
    run: RunDirectory,
    config: RunConfig,
    *extra: Hook,
    attempt: int = 1,
    checkpoint: Path | None = None,
    amp_dtype: torch.dtype | None = None,
    dropout: float = 0.0,
) -> None:
    """Train with what no configuration gives on a CPU: autocast, and random numbers that are drawn in the model."""
    with EventWriter(run.path, attempt) as told, ExitStack() as resources:
        hooks = [*extra, *standard_hooks(config, run, told)]
        trainer = build_trainer(config, hooks, Control(), checkpoint, lambda phase: None, resources)
        trainer.precision = replace(trainer.precision, amp_dtype=amp_dtype)

        def drop(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(output, dropout, trainer.model.training)

        if dropout:
            trainer.model.llm.model.embed_tokens.register_forward_hook(drop)
        trainer.train()


def assert_same_end(run: RunDirectory, reference: RunDirectory) -> None:
    """The last checkpoints of two runs of which one was interrupted, and the metrics after that."""
    expected, resumed = losses(reference, 1), losses(run, 2)
    for step, values in resumed.items():
        assert values.items() <= expected[step].items(), f"step {step}"
        assert values.keys() == expected[step].keys() or step == min(resumed), "only what was owed may come alone"
    assert set(expected) - set(resumed) <= set(losses(run, 1))
    mine, theirs = (read_checkpoint(r.checkpoint_dir(STEPS)) for r in (run, reference))
    for name in ("model", "optimizer", "rng"):
        assert Part(mine.tensors[name]).equals(Part(theirs.tensors[name])), name
    assert mine.state == theirs.state


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_random_numbers_and_low_precision_change_nothing(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, save_steps=7, eval_steps=None)
    ends = {}
    for name, amp_dtype in (("fp32", None), ("bf16", torch.bfloat16)):
        reference, run = (new_run(tmp_path / name / which, config) for which in ("reference", "resumed"))
        train_here(reference, config, amp_dtype=amp_dtype, dropout=0.2)
        train_here(run, config, StopAfter(9), amp_dtype=amp_dtype, dropout=0.2)
        train_here(run, config, attempt=2, checkpoint=run.checkpoint_dir(9), amp_dtype=amp_dtype, dropout=0.2)
        assert_same_end(run, reference)
        early, late = (read_checkpoint(reference.checkpoint_dir(step)).tensors["rng"] for step in (7, STEPS))
        assert not Part(early).equals(Part(late)), "nothing was drawn"
        ends[name] = losses(reference, 1)[STEPS]
    assert ends["fp32"] != ends["bf16"], "nothing was cast"


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 1), (1, 0)])
def test_the_number_of_workers_changes_nothing(corpus: Path, tmp_path: Path, before: int, after: int) -> None:
    def config(num_workers: int) -> RunConfig:
        training = {"max_steps": STEPS, "eval_steps": EVAL_STEPS, "save_steps": 5}
        return tiny_config(corpus, {"data": {"num_workers": num_workers}}, **training)

    reference, run = (new_run(tmp_path / name, config(0)) for name in ("reference", "resumed"))
    assert train(reference, config(0), 1) == ExitCode.COMPLETED
    train_here(run, config(before), StopAfter(7))
    assert train(run, config(after), 2, "checkpoints/step-00000007") == ExitCode.COMPLETED
    assert_same_end(run, reference)


def test_nothing_is_drawn_from_generators_that_no_checkpoint_holds(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, max_steps=4, eval_steps=2, sample_steps=2)
    before = random.getstate(), np.random.get_state()[1:3]
    assert train(new_run(tmp_path, config), config, 1) == ExitCode.COMPLETED
    after = random.getstate(), np.random.get_state()[1:3]
    assert before[0] == after[0]
    assert [str(part) for part in before[1]] == [str(part) for part in after[1]]


def test_a_stop_request_saves_and_the_receipt_says_what_came_back(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, {"checkpoint": {"keep_last": 10}}, max_steps=4)
    run = new_run(tmp_path, config)
    run.commands.post(CommandKind.CHECKPOINT, 1)
    run.commands.post(CommandKind.PAUSE, 2)
    assert train(run, config, 1) == ExitCode.COMPLETED
    kinds = [json.loads(line) for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = [(e["id"], e["status"]) for e in kinds if e["kind"] == "command"]
    assert answers == [(1, "accepted"), (2, "ignored"), (1, "done")]
    assert [e["step"] for e in kinds if e["kind"] == "checkpoint" and e["reason"] == "requested"] == [1]

    assert train(run, config, 3, "checkpoints/step-00000001") == ExitCode.COMPLETED
    receipt = next(
        json.loads(line)
        for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
        if '"receipt"' in line
    )
    assert receipt["step"] == 1
    counters = [field.name for field in fields(TrainerState)]
    expected = ["model", "optimizer", "scheduler", *counters, "metrics", "rng.cpu"]
    cuda = ["rng.cuda.0"] if torch.cuda.is_available() else []
    assert receipt["restored"] == [*expected, *cuda]
    assert receipt["missing"] == receipt["reset"] == []
    saved = read_checkpoint(run.checkpoint_dir(1))
    assert list(receipt["hashes"]) == receipt["restored"]
    assert receipt["hashes"]["model"] == Part(saved.tensors["model"]).digest()
    assert receipt["hashes"]["data"] == Part(plain=saved.state["trainer"]["data"]).digest()


def test_weights_that_others_trained_are_needed_once(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "autoencoder"
    shutil.copytree(demo_corpus() / "autoencoder", folder)
    config = tiny_config(corpus, {"model": {"autoencoder": str(folder)}}, max_steps=2, save_steps=1)
    run = new_run(tmp_path, config)
    assert train(run, config, 1) == ExitCode.COMPLETED
    shutil.rmtree(folder)
    assert train(run, config, 2, "checkpoints/step-00000001") == ExitCode.COMPLETED
    first, second = losses(run, 1)[2], losses(run, 2)[2]
    assert first == second


def test_what_a_stop_broke_off_is_made_up_for(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, sample_steps=5)
    run = new_run(tmp_path, config)
    with EventWriter(run.path, 1) as told, ExitStack() as resources:
        control = Control()
        hooks = [*standard_hooks(config, run, told), StopInside(control)]
        hooks[1:1] = [hooks.pop()]  # asks to end just before the evaluation of step 5
        trainer = build_trainer(config, hooks, control, None, lambda phase: None, resources)
        assert trainer.train() is not None
        assert (trainer.state.step, trainer.state.owes_evaluation, trainer.state.owes_samples) == (5, True, True)
    assert losses(run, 1)[5].keys().isdisjoint(EVALUATED)

    assert train(run, config, 2, "checkpoints/step-00000005") == ExitCode.COMPLETED
    assert losses(run, 2)[5].keys() >= EVALUATED
    assert (run.sample_dir(5) / "index.json").exists()
    assert not read_checkpoint(run.checkpoint_dir(STEPS)).state["trainer"]["owes_evaluation"]


def test_a_request_inside_a_window_drops_it_and_resume_repeats_it(undisturbed: Any, tmp_path: Path) -> None:
    config, reference = undisturbed
    run = new_run(tmp_path, config)
    with EventWriter(run.path, 1) as told, ExitStack() as resources:
        control = Control()
        trainer = build_trainer(config, standard_hooks(config, run, told), control, None, lambda phase: None, resources)

        def ask_in_step_3(model: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
            if trainer.global_step == 2 and arguments[0].endswith(".loss"):
                assert control.end is None, "a micro-batch was begun after the request"
                control.request_end(EndRequest(CommandKind.STOP, save=True, reason="a test"))

        trainer.model.register_forward_pre_hook(ask_in_step_3)
        assert trainer.train() is not None
    done = 3 if config.training.gradient_accumulation_steps == 1 else 2  # a window that is complete is stepped
    assert trainer.global_step == done
    assert train(run, config, 2, f"checkpoints/step-{done:08d}") == ExitCode.COMPLETED
    told, expected = losses(run, 1) | losses(run, 2), losses(reference, 1)
    assert told.keys() == expected.keys() | {done}  # a run that ends tells of a window that is not full, too
    assert {step: told[step] for step in expected} == expected
    assert read_checkpoint(run.checkpoint_dir(STEPS)).state == read_checkpoint(reference.checkpoint_dir(STEPS)).state


def test_a_resume_may_change_the_options_of_the_optimizer(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=6, save_steps=2)
    run = new_run(tmp_path, config)
    assert train(run, config, 1) == ExitCode.COMPLETED
    rates = {step: values["optim/lr"] for step, values in losses(run, 1).items()}
    changed = config.training.model_copy(
        update={"learning_rate": 2 * config.training.learning_rate, "weight_decay": 0.5}
    )
    assert train(run, config.model_copy(update={"training": changed}), 2, "checkpoints/step-00000004") == 0
    for step, values in losses(run, 2).items():
        assert values["optim/lr"] == pytest.approx(2 * rates[step]), f"step {step}"
    receipt = next(event for event in events(run) if event["kind"] == "receipt")
    assert receipt["reset"] == ["optimizer.weight_decay", "optimizer.initial_lr"]
    groups = read_checkpoint(run.checkpoint_dir(6)).state["optimizer"]["groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


def test_after_going_back_the_newest_checkpoint_is_of_the_new_course(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, {"checkpoint": {"keep_last": 3}}, max_steps=6, save_steps=2)
    run = new_run(tmp_path, config)
    assert train(run, config, 1) == ExitCode.COMPLETED
    assert [path.name[-1] for path in complete_checkpoints(run.checkpoints)] == ["2", "4", "6"]
    shorter = config.model_copy(update={"training": config.training.model_copy(update={"max_steps": 3})})
    assert train(run, shorter, 2, "checkpoints/step-00000002") == ExitCode.COMPLETED
    assert [path.name for path in complete_checkpoints(run.checkpoints)] == ["step-00000002", "step-00000003"]
    told = [event["message"] for event in events(run) if event["kind"] == "log"]
    assert told == ["training goes on from step 2; new checkpoints take the place of step-00000004, step-00000006"]

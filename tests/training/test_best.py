"""The best evaluation, by a named metric, and the checkpoint of it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support.attempts import begin, of_kind
from support.runs import events
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.writer import EventWriter
from xoron_core.training.build import build_trainer
from xoron_core.training.checkpoint import complete_checkpoints, read_checkpoint
from xoron_core.training.control import Control
from xoron_core.training.hooks import Hook, standard_hooks
from xoron_core.training.hooks.checkpoints import CheckpointHook, Reason
from xoron_core.training.trainer import XoronTrainer

SPOILED = 7


class Spoil(Hook):
    """Makes the model much worse after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, trainer: XoronTrainer) -> None:
        if trainer.global_step == self.step:
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in trainer.model.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def train(
    run: RunDirectory, config: RunConfig, *extra: Hook, attempt: int = 1, checkpoint: Path | None = None
) -> tuple[XoronTrainer, list[tuple[str, Reason]]]:
    """Train a run here; the trainer, and the checkpoints that those who want to know were told of."""
    told_of: list[tuple[str, Reason]] = []
    with EventWriter(run.path, attempt) as told, ExitStack() as resources:
        hooks = [*extra, *standard_hooks(config, run, told)]
        writer = next(hook for hook in hooks if isinstance(hook, CheckpointHook))
        writer.on_written.append(lambda path, reason: told_of.append((path.name, reason)))
        trainer = build_trainer(config, hooks, Control(), checkpoint, lambda phase: None, resources)
        trainer.train()
    return trainer, told_of


def config_of(corpus: Path, checkpoint: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    values = {"max_steps": 12, "eval_steps": 2, "save_steps": 1, "num_epochs": 9, **training}
    return tiny_config(corpus, {"checkpoint": {"keep_last": 2, **(checkpoint or {})}}, **values)


def evaluations(run: RunDirectory, metric: str) -> dict[int, float]:
    return {event["step"]: event["values"][metric] for event in of_kind(run, "eval")}


@pytest.mark.parametrize("metric", ["eval/loss", "eval/text/perplexity"])
def test_the_best_is_noted_written_and_kept_while_others_go(corpus: Path, tmp_path: Path, metric: str) -> None:
    config = config_of(corpus, {"best_metric": metric, "keep_every": 5})
    run = begin(tmp_path, config)
    trainer, told_of = train(run, config, Spoil(SPOILED))
    values = evaluations(run, metric)
    best = [step for step, value in values.items() if all(value < values[other] for other in values if other < step)]
    assert best[0] == min(values)
    assert SPOILED - 2 <= best[-1] < SPOILED, "the model got better until it was spoiled"
    assert (trainer.state.best_step, trainer.state.best_loss) == (best[-1], min(values.values()))
    assert [event["step"] for event in of_kind(run, "checkpoint") if event["reason"] == "best"] == best
    assert told_of == [(f"step-{e['step']:08d}", e["reason"]) for e in of_kind(run, "checkpoint")]
    kept = [int(path.name[-2:]) for path in complete_checkpoints(run.checkpoints)]
    assert kept == sorted({best[-1], 5, 10, 11, 12})
    state = read_checkpoint(run.checkpoint_dir(best[-1])).state["trainer"]
    assert (state["best_step"], state["best_loss"]) == (best[-1], values[best[-1]])


def test_a_best_one_is_written_where_none_is_due_and_none_where_it_is_not_to_be_kept(
    corpus: Path, tmp_path: Path
) -> None:
    config = config_of(corpus, max_steps=4, save_steps=None)
    run = begin(tmp_path, config)
    train(run, config)
    assert [(event["step"], event["reason"]) for event in of_kind(run, "checkpoint")] == [(2, "best"), (4, "best")]
    other = config_of(corpus, {"keep_best": False}, max_steps=4, save_steps=None)
    run = begin(tmp_path / "other", other)
    trainer, _ = train(run, other)
    assert [(event["step"], event["reason"]) for event in of_kind(run, "checkpoint")] == [(4, "final")]
    assert trainer.state.best_loss == min(evaluations(run, "eval/loss").values()), "noted all the same"


def test_a_resumed_run_knows_the_best_of_before_unless_another_metric_counts(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, max_steps=4)
    run = begin(tmp_path, config)
    trainer, _ = train(run, config)
    best = trainer.state.best_loss
    again = config_of(corpus, max_steps=5)
    trainer, told_of = train(run, again, Spoil(5), attempt=2, checkpoint=run.checkpoint_dir(4))
    assert (trainer.state.best_step, trainer.state.best_loss) == (4, best)
    assert told_of == [("step-00000005", "periodic")]
    other = config_of(corpus, {"best_metric": "eval/text/ce"}, max_steps=6)
    trainer, told_of = train(run, other, Spoil(5), attempt=3, checkpoint=run.checkpoint_dir(4))
    assert trainer.state.best_step == 6
    assert trainer.state.best_loss == evaluations(run, "eval/text/ce")[6]
    assert told_of == [("step-00000005", "periodic"), ("step-00000006", "best")]
    [told] = [e["message"] for e in of_kind(run, "log") if "best_metric" in e["message"]]
    assert told == "checkpoint.best_metric was 'eval/loss' before; the best value of it is forgotten"


def test_a_metric_that_no_held_out_row_gives_is_told_once(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, {"best_metric": "eval/text/tool_loss"}, max_steps=4)
    run = begin(tmp_path, config)
    trainer, _ = train(run, config)
    assert trainer.state.best_loss is None
    [told] = [event["message"] for event in events(run) if event["kind"] == "alert"]
    assert "checkpoint.best_metric is 'eval/text/tool_loss'" in told
    assert "eval/text/cot_loss" in told


@pytest.mark.parametrize("metric", ["eval/txt/loss", "text/loss", "eval/asr/wer", "eval/text/shuffled_loss"])
def test_a_metric_that_no_evaluation_can_give_is_refused_with_those_there_are(corpus: Path, metric: str) -> None:
    with pytest.raises(ConfigError, match=r"eval/loss, eval/text/loss, .*eval/image_generation/loss") as error:
        config_of(corpus, {"best_metric": metric})
    assert [problem.field for problem in error.value.problems] == ["checkpoint.best_metric"]
    assert metric in str(error.value)


def test_a_modality_without_held_out_rows_gives_none(corpus: Path) -> None:
    config = config_of(corpus)
    sources = [source.to_dict() for source in config.data.sources]
    sources[0]["eval_split"] = None
    with pytest.raises(ConfigError, match=r"'eval/text/ce' .*there are: eval/loss, eval/image_generation/loss"):
        tiny_config(corpus, {"data": {"sources": sources}, "checkpoint": {"best_metric": "eval/text/ce"}})

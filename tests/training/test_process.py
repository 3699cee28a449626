"""The trainer process: what it does with bad input and with requests."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import events, states, wait_for
from support.tiny import tiny_config, tiny_corpus, tiny_overrides
from torch.amp import GradScaler

from xoron_core.contract import clock
from xoron_core.contract.beat import BeatWriter
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError, DataError, NonFiniteError
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.contract.writer import EventWriter
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.runner import Here
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training import build
from xoron_core.training.build import build_dataset, build_trainer
from xoron_core.training.control import Control, RunControl
from xoron_core.training.hooks import standard_hooks
from xoron_core.training.process import run_attempt


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tiny_corpus(tmp_path / "corpus")


def begin(home: Path, config: RunConfig) -> RunDirectory:
    run = RunDirectory.create(home / "runs", new_record("a test"), config)
    record = AttemptRecord(attempt=1, reason="test", created_at=clock.now(), checkpoint=None, config=config.to_dict())
    run.write_attempt(record)
    return run


def of_kind(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [event for event in events(run) if event["kind"] == kind]


def break_row(corpus: Path, folder: str, line: int, text: str) -> None:
    path = corpus / folder / "train.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_run_tells_its_whole_story(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=4, eval_steps=2, save_steps=2, sample_steps=4, logging_steps=2)
    run = begin(tmp_path, config)
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert [event["seq"] for event in events(run)] == list(range(1, len(events(run)) + 1))
    assert states(run) == ["running"]
    assert [event["step"] for event in of_kind(run, "metrics")] == [2, 4]
    assert [event["step"] for event in of_kind(run, "eval")] == [2, 4]
    assert [(event["step"], event["reason"]) for event in of_kind(run, "checkpoint")] == [
        (2, "best"),
        (4, "best"),
    ]
    samples = of_kind(run, "sample")
    assert [(event["modality"], event["mime"]) for event in samples] == [
        ("text", "text/plain"),
        ("image_generation", "image/png"),
    ]
    assert all((run.path / event["path"]).stat().st_size > 0 for event in samples)
    values = of_kind(run, "metrics")[-1]["values"]
    assert {"text/loss", "text/ce", "text/perplexity", "text/cot_loss", "image_generation/loss"} <= values.keys()
    assert {"train/loss", "optim/lr", "optim/grad_norm", "speed/steps_per_s", "memory/peak_gib"} <= values.keys()
    assert values["data/text/micro_batches"] == values["data/image_generation/micro_batches"] == 2
    assert of_kind(run, "eval")[-1]["values"].keys() >= {"eval/text/perplexity", "eval/image_generation/loss"}


def test_an_unreadable_row_is_counted_and_named_and_training_goes_on(corpus: Path, tmp_path: Path) -> None:
    break_row(corpus, "pictures", 3, '{"image": "files/none.webp", "caption": "nothing"}')
    break_row(corpus, "text", 5, "{torn")
    config = tiny_config(corpus, {"data": {"max_bad_fraction": 0.5}}, max_steps=12)
    run = begin(tmp_path, config)
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    bad = {(event["source"], event["index"]) for event in of_kind(run, "bad_sample")}
    assert bad == {("pictures", 3), ("thoughts", 5)}
    assert any("none.webp" in event["reason"] for event in of_kind(run, "bad_sample"))
    assert of_kind(run, "metrics")[-1]["values"]["data/bad_samples"] == len(of_kind(run, "bad_sample"))


def test_a_source_of_unreadable_rows_ends_the_run_and_is_named(corpus: Path, tmp_path: Path) -> None:
    for line in range(10):
        break_row(corpus, "pictures", line, '{"image": "files/none.webp", "caption": "nothing"}')
    run = begin(tmp_path, tiny_config(corpus))
    with pytest.raises(DataError, match=r"pictures.*max_bad_fraction"):
        run_attempt(run, 1)
    assert "pictures" in of_kind(run, "alert")[-1]["message"]


def test_a_corpus_that_is_gone_is_refused_before_anything_is_built(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    (corpus / "text" / "train.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"data\.sources\.0\.path: source 'thoughts' has no file"):
        run_attempt(run, 1)
    assert [event["phase"] for event in of_kind(run, "phase")] == ["setup"]


def test_a_gpu_that_is_not_there_is_refused(corpus: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    run = begin(tmp_path, tiny_config(corpus, {"resources": {"device": "cuda"}}))
    with pytest.raises(ConfigError, match=r"resources\.device.*no usable GPU"):
        run_attempt(run, 1)


def test_losses_that_are_no_numbers_end_the_run_with_their_samples(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, learning_rate=1e30, max_nonfinite=2, warmup_ratio=0.0, weight_decay=0.0)
    run = begin(tmp_path, config)
    with pytest.raises(NonFiniteError, match=r"3 steps in a row.*learning_rate.*thoughts\["):
        run_attempt(run, 1)
    told = of_kind(run, "non_finite")
    assert told
    assert all(event["sample_ids"] for event in told)
    nulls = [event for event in of_kind(run, "metrics") if None in event["values"].values()]
    assert {event["step"] for event in nulls} == {event["step"] for event in told}


def break_last_row_of_first_epoch(config: RunConfig, corpus: Path) -> None:
    modalities = enabled_modalities(config, Tokenizer.load("demo"))
    with closing(build_dataset(config, modalities)) as dataset:
        followed = dataset.follow(Here(dataset.preparation, lambda micro: micro, lambda: None))
        last = next(drawn for drawn in followed if drawn.ends_epoch)
    assert last.part is not None
    [sample] = last.part.samples
    break_row(corpus, "pictures", sample.origin.index, "{torn")


def test_an_epoch_whose_last_rows_are_unreadable_ends_all_the_same(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "corpus", num_pictures=9)
    overrides = {
        "data": {"max_bad_fraction": 0.5, "sources": [tiny_overrides(corpus)["data"]["sources"][1]]},
        "modalities": {"text": {"weight": 0.0}},
    }
    overrides["data"] |= {"bucket_window": 1}
    overrides["data"]["sources"][0]["sample_repeat"] = 1
    config = tiny_config(corpus, overrides, max_steps=None, num_epochs=1)
    break_last_row_of_first_epoch(config, corpus)
    run = begin(tmp_path, config)
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert [event["step"] for event in of_kind(run, "metrics")] == [1, 2]
    assert len(of_kind(run, "bad_sample")) == 1
    assert [event["step"] for event in of_kind(run, "eval")] == [2]


def test_a_held_out_row_that_cannot_be_read_is_told_and_left_out(corpus: Path, tmp_path: Path) -> None:
    path = corpus / "pictures" / "heldout.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(["{torn", *lines[1:]]) + "\n", encoding="utf-8")
    run = begin(tmp_path, tiny_config(corpus, max_steps=1))
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert [event["message"][:74] for event in of_kind(run, "alert")] == [
        "1 held-out rows cannot be read and are left out; the first: pictures[0]: n"
    ]
    assert of_kind(run, "eval")[-1]["values"].keys() >= {"eval/image_generation/loss"}


def test_a_loss_scale_that_is_too_large_is_lowered_and_is_no_trouble(corpus: Path) -> None:
    steep = {"modalities": {name: {"loss_weight": 8.0} for name in ("text", "image_generation")}}
    config = tiny_config(corpus, steep, max_steps=12, max_nonfinite=0)
    with ExitStack() as resources:
        trainer = build_trainer(config, [], Control(), None, lambda phase: None, resources)
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.scaler = GradScaler("cpu", init_scale=2.0**127)
        assert trainer.train() is None
        assert trainer.scaler.get_scale() < 2.0**127
        assert trainer.state.nonfinite_in_a_row == 0
        assert any(not torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())


def test_a_gradient_that_no_loss_scale_mends_is_trouble(corpus: Path) -> None:
    config = tiny_config(corpus, learning_rate=1e30, max_nonfinite=2, warmup_ratio=0.0, weight_decay=0.0)
    with ExitStack() as resources:
        trainer = build_trainer(config, [], Control(), None, lambda phase: None, resources)
        trainer.scaler = GradScaler("cpu", init_scale=1.0)
        with pytest.raises(NonFiniteError, match="3 steps in a row"):
            trainer.train()


def test_requests_that_the_end_overtakes_are_answered(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus, max_steps=2))
    with EventWriter(run.path, 1) as told, ExitStack() as resources:
        control = RunControl(
            run.commands, 1, 1, told, resources.enter_context(closing(BeatWriter(run.beat_file))), 60.0
        )
        hooks = standard_hooks(run.config(), run, told)
        trainer = build_trainer(run.config(), hooks, control, None, lambda phase: None, resources)
        trainer.state.step = 1
        for kind in (CommandKind.SAMPLE, CommandKind.CHECKPOINT, CommandKind.STOP):
            run.commands.post(kind, 1)
        assert trainer.train() is not None
    answers = [(event["command"], event["status"]) for event in of_kind(run, "command")]
    assert answers[3:] == [("sample", "ignored"), ("checkpoint", "done")]


def start(run: RunDirectory) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "xoron_core.training", str(run.path), "1"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = begin(tmp_path, tiny_config(corpus, max_steps=100_000, num_epochs=100_000))
    process = start(run)
    wait_for(lambda: of_kind(run, "metrics"), 60)
    process.send_signal(number)
    assert process.wait(30) == ExitCode.STOPPED
    last = of_kind(run, "metrics")[-1]["step"]
    assert of_kind(run, "checkpoint")[-1]["step"] == last
    assert of_kind(run, "state")[-1]["state"] == "stopping"
    assert number.name in of_kind(run, "state")[-1]["reason"]


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        (CommandKind.PAUSE, ExitCode.PAUSED, "pausing"),
        (CommandKind.CANCEL, ExitCode.CANCELLED, "stopping"),
    ],
)
def test_a_request_before_the_first_step_is_obeyed_without_a_checkpoint(
    corpus: Path, tmp_path: Path, kind: CommandKind, status: ExitCode, state: str
) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    run.commands.post(kind, 1)
    assert run_attempt(run, 1) == status
    assert states(run) == [state]
    assert of_kind(run, "checkpoint") == of_kind(run, "metrics") == []


def test_whoever_asked_for_something_before_an_early_end_is_answered(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus))
    for kind in (CommandKind.CHECKPOINT, CommandKind.SAMPLE, CommandKind.STOP):
        run.commands.post(kind, 1)
    assert run_attempt(run, 1) == ExitCode.STOPPED
    assert [(event["id"], event["status"]) for event in of_kind(run, "command")] == [
        *((number, "accepted") for number in (1, 2, 3)),
        *((number, "ignored") for number in (1, 2)),
    ]


def test_a_request_while_the_data_is_set_up_is_heard_before_anything_else_is(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path, tiny_config(corpus))

    def build_meanwhile(*arguments: Any) -> TrueStreamingDataset:
        run.commands.post(CommandKind.STOP, 1)
        return build_dataset(*arguments)

    monkeypatch.setattr(build, "build_dataset", build_meanwhile)
    assert run_attempt(run, 1) == ExitCode.STOPPED
    assert [event["phase"] for event in of_kind(run, "phase")] == ["setup", "data", "requested", "closing"]


def test_requests_are_looked_for_between_all_parts_of_the_set_up(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, max_steps=1)
    run = begin(tmp_path, config)
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    seen: list[str] = []
    with ExitStack() as resources:
        checkpoint = run.checkpoint_dir(1)
        build_trainer(
            config, [], Control(), checkpoint, seen.append, resources, between_parts=lambda: seen.append("between")
        )
    assert seen == ["data", "between", "between", "model", "between", "restoring"]


def test_a_file_that_is_no_command_is_told_and_passed_over(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, tiny_config(corpus, max_steps=6))
    (run.commands.directory / "00000001.json").write_text(json.dumps({"kind": "dance"}), encoding="utf-8")
    run.commands.post(CommandKind.SAMPLE, 1)
    assert run_attempt(run, 1) == ExitCode.COMPLETED
    assert "00000001.json" in of_kind(run, "alert")[0]["message"]
    assert [event["status"] for event in of_kind(run, "command")] == ["accepted", "done"]
    assert of_kind(run, "sample")

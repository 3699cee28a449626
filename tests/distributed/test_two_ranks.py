"""Two processes that train one model, by torchrun and gloo."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.attempts import begin, begin_next, of_kind, phases, started, train
from support.run_processes import ranks
from support.runs import events, states, wait_for
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import read_checkpoint

STEPS = 8
LOSS_TOLERANCE = 1e-6
LIVE_S = 60.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def shared(corpus: Path, processes: int, overrides: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    """Micro-batches of two documents and of four pictures, whoever has them: windows are as large as that."""
    own = {
        "resources": {"processes": processes},
        "data": {"pack_window": 2 // processes, "bucket_window": 1},
        "modalities": {
            "text": {"batch_size": 2 // processes},
            "image_generation": {"batch_size": 4 // processes},
        },
    }
    values = {"max_steps": STEPS, "gradient_accumulation_steps": 2, "save_steps": 4, "logging_steps": 1, **training}
    return tiny_config(corpus, merge(own, overrides or {}), **values)


def endless(corpus: Path) -> RunConfig:
    return shared(corpus, 2, max_steps=100_000, num_epochs=100_000, save_steps=None)


def metrics(run: RunDirectory, attempt: int = 1) -> dict[int, dict[str, float]]:
    """Values by step, without those of time and memory, and perplexity, which is e to the cross-entropy beside it."""
    left_out = ("speed/", "memory/", "text/perplexity")
    return {
        event["step"]: {k: v for k, v in event["values"].items() if not k.startswith(left_out)}
        for event in of_kind(run, "metrics")
        if event["attempt"] == attempt
    }


def assert_same_course(mine: dict[int, dict[str, float]], theirs: dict[int, dict[str, float]]) -> None:
    assert mine.keys() == theirs.keys()
    for step, values in theirs.items():
        assert mine[step] == pytest.approx(values, rel=LOSS_TOLERANCE, abs=1e-9), f"step {step}"


def assert_same_weights(mine: RunDirectory, theirs: RunDirectory, step: int) -> None:
    one, other = (read_checkpoint(run.checkpoint_dir(step)) for run in (mine, theirs))
    assert one.tensors["optimizer"].keys() == other.tensors["optimizer"].keys()
    for name, tensor in other.tensors["model"].items():
        torch.testing.assert_close(one.tensors["model"][name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    kept = [
        state["trainer"] | {"best_loss": 0, "data": _shared(state["trainer"]["data"])}
        for state in (one.state, other.state)
    ]
    assert kept[0] == kept[1]


def _shared(data: dict[str, Any]) -> dict[str, Any]:
    """What of the place in the data does not depend on how many share it."""
    return {name: value for name, value in data.items() if name != "lanes"}


@pytest.fixture(scope="module")
def alone(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = begin(tmp_path_factory.mktemp("alone"), shared(corpus, 1))
    assert train(run) == ExitCode.COMPLETED
    return run


@pytest.fixture(scope="module")
def together(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = begin(tmp_path_factory.mktemp("together"), shared(corpus, 2))
    assert train(run, processes=2) == 0
    return run


@pytest.mark.slow
def test_losses_and_weights_are_those_of_one_process(alone: RunDirectory, together: RunDirectory) -> None:
    assert list(metrics(alone)) == list(range(1, STEPS + 1))
    assert_same_course(metrics(together), metrics(alone))
    assert_same_weights(together, alone, STEPS)


def test_rank_0_alone_writes_and_counts_what_all_were_trained_on(alone: RunDirectory, together: RunDirectory) -> None:
    assert [event["seq"] for event in events(together)] == list(range(1, len(events(together)) + 1))
    assert states(together) == ["running"]
    told = [(event["kind"], event.get("step"), event.get("phase")) for event in events(together)]
    assert told == [(event["kind"], event.get("step"), event.get("phase")) for event in events(alone)]
    counts = [[(e["tokens"], e["samples"]) for e in of_kind(run, "metrics")] for run in (together, alone)]
    assert counts[0] == counts[1]


def test_each_rank_leaves_last_words(together: RunDirectory) -> None:
    ends = together.rank_ends(1)
    assert sorted((end.rank, end.code, end.step, end.reason) for end in ends) == [
        (0, ExitCode.COMPLETED, STEPS, None),
        (1, ExitCode.COMPLETED, STEPS, None),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_one_goes_on_where_two_stopped_and_the_reverse(
    corpus: Path, alone: RunDirectory, together: RunDirectory, tmp_path: Path, before: int, after: int
) -> None:
    source = {1: alone, 2: together}[before]
    run = begin(tmp_path, shared(corpus, before))
    shutil.copytree(source.checkpoint_dir(4), run.checkpoint_dir(4))
    begin_next(run, shared(corpus, after), 2, checkpoint="checkpoints/step-00000004")
    assert train(run, 2, processes=after) == 0
    assert_same_course(metrics(run, 2), {step: values for step, values in metrics(alone).items() if step > 4})
    assert_same_weights(run, alone, STEPS)


@pytest.mark.slow
def test_a_rank_without_rows_takes_part(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "corpus", num_texts=3, num_pictures=5)  # the last micro-batch: one picture
    source = {"name": "pictures", "category": "image_generation", "path": str(corpus / "pictures")}
    own = {"data": {"sources": [source]}, "modalities": {"text": {"weight": 0}}}
    steps = {"max_steps": 4, "gradient_accumulation_steps": 1, "save_steps": None}
    runs = []
    for processes in (1, 2):
        size = {"modalities": {"image_generation": {"batch_size": 4 // processes}}}
        runs.append(begin(tmp_path / str(processes), shared(corpus, processes, merge(own, size), **steps)))
        assert train(runs[-1], processes=processes) == 0
    assert [event["samples"] for event in of_kind(runs[1], "metrics")] == [4, 5, 9, 10]
    assert_same_course(metrics(runs[1]), metrics(runs[0]))
    assert_same_weights(runs[1], runs[0], 4)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_the_demo_preset_with_several_modalities_is_that_of_one_process(tmp_path: Path) -> None:
    runs = []
    for processes in (1, 2):
        sizes = {name: {"batch_size": 2 // processes} for name in resolve("demo").modality_weights()}
        changes = {
            "data": {"pack_window": 2 // processes, "bucket_window": 1},
            "modalities": sizes,
            "training": {"max_steps": 2, "save_steps": None, "eval_steps": None, "sample_steps": None,
                         "logging_steps": 1, "gradient_accumulation_steps": 7, "max_seq_length": 256},
            "evaluation": {"max_per_dataset_eval": 1},
            "resources": {"processes": processes, "device": "cpu", "threads": 1},
            "trouble": {"min_free_disk_gib": 0.0},
        }  # fmt: skip
        runs.append(begin(tmp_path / str(processes), resolve("demo", changes)))
        assert train(runs[-1], processes=processes, timeout_s=200) == 0
    for step, values in metrics(runs[0]).items():
        losses = {name: value for name, value in values.items() if name.endswith("/loss")}
        assert len(losses) > 4
        told = {name: metrics(runs[1])[step][name] for name in losses}
        assert told == pytest.approx(losses, rel=LOSS_TOLERANCE if step == 1 else 1e-5), f"step {step}"


def pids(run: RunDirectory) -> dict[int, int]:
    """Both ranks' processes, once they train."""
    wait_for(lambda: of_kind(run, "metrics"), LIVE_S)
    return wait_for(lambda: len(found := ranks(run)) == 2 and found)


@pytest.mark.slow
def test_a_stop_ends_both_after_the_same_step(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, endless(corpus))
    with started(run, processes=2) as process:
        pids(run)
        run.commands.post(CommandKind.STOP, 1)
        assert process.wait(LIVE_S) == 0
    step = of_kind(run, "checkpoint")[-1]["step"]
    assert {(end.rank, end.code, end.step) for end in run.rank_ends(1)} == {
        (0, ExitCode.STOPPED, step),
        (1, ExitCode.STOPPED, step),
    }
    assert phases(run)[-5:] == ["requested", "draining", "saving", "verified", "closing"]


@pytest.mark.slow
def test_a_signal_to_the_other_rank_ends_both(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, endless(corpus))
    with started(run, processes=2) as process:
        pid = pids(run)[1]
        os.kill(pid, signal.SIGTERM)
        assert process.wait(LIVE_S) == 0
    assert {end.code for end in run.rank_ends(1)} == {ExitCode.STOPPED}
    assert of_kind(run, "state")[-1] | {"state": "stopping", "reason": "SIGTERM received"} == of_kind(run, "state")[-1]


@pytest.mark.slow
def test_when_the_launcher_is_told_to_end_both_save_and_end(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, endless(corpus))
    with started(run, processes=2) as process:
        pids(run)
        process.terminate()  # as the kernel does when the keeper is killed
        process.wait(LIVE_S)
        assert not ranks(run)
    assert {(end.rank, end.code) for end in run.rank_ends(1)} == {(0, ExitCode.STOPPED), (1, ExitCode.STOPPED)}
    assert phases(run)[-5:] == ["requested", "draining", "saving", "verified", "closing"]


@pytest.mark.slow
def test_when_the_launcher_is_killed_nobody_takes_it_for_a_request_to_end(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, endless(corpus))
    with started(run, processes=2) as process:
        pids(run)
        process.kill()
        process.wait(LIVE_S)
        wait_for(lambda: not ranks(run))
    assert run.rank_ends(1) == []
    assert states(run) == ["running"]


@pytest.mark.slow
def test_a_request_in_the_set_up_ends_both(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, endless(corpus))
    run.commands.post(CommandKind.PAUSE, 1)
    assert train(run, processes=2) == 0
    assert {(end.rank, end.code) for end in run.rank_ends(1)} == {(0, ExitCode.PAUSED), (1, ExitCode.PAUSED)}
    assert states(run) == ["pausing"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_ends_by_itself_within_seconds(corpus: Path, tmp_path: Path, victim: int) -> None:
    run = begin(tmp_path, endless(corpus))
    with started(run, processes=2) as process:
        pid = pids(run)[victim]
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        (end,) = wait_for(lambda: run.rank_ends(1), 10)
        assert (end.rank, end.code) == (1 - victim, ExitCode.PEER_LOST)
        assert process.wait(30) != 0
    assert time.monotonic() - killed_at < 30


@pytest.mark.slow
def test_what_both_meet_is_told_by_both(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, shared(corpus, 2, {"data": {"max_bad_fraction": 0.0}}))
    config = run.config()
    begin_next(run, config, 2, checkpoint="checkpoints/step-00000099")
    assert train(run, 2, processes=2) != 0
    assert {end.code for end in run.rank_ends(2)} <= {ExitCode.DAMAGED_CHECKPOINT, ExitCode.PEER_LOST}
    assert any(
        end.code == ExitCode.DAMAGED_CHECKPOINT and "manifest.json" in str(end.reason) for end in run.rank_ends(2)
    )


@pytest.mark.slow
def test_as_many_processes_as_configured_or_none(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, shared(corpus, 2))
    assert train(run, processes=1) == ExitCode.REFUSED
    assert "resources.processes" in str(run.rank_ends(1)[0].reason)


@pytest.mark.slow
def test_the_launchers_signal_after_a_death_is_no_request_to_end(corpus: Path, tmp_path: Path) -> None:
    run = begin(tmp_path, shared(corpus, 2, {"trouble": {"min_free_disk_gib": 1e9}}))
    with started(run, processes=2) as process:
        wait_for(lambda: "waiting" in phases(run), LIVE_S)  # rank 0 holds still in a hook, where it looks for requests
        (victim,) = [pid for rank, pid in ranks(run).items() if rank == 1]
        os.kill(victim, signal.SIGKILL)
        assert process.wait(30) != 0
    assert [(end.rank, end.code) for end in run.rank_ends(1)] == [(0, ExitCode.PEER_LOST)]
    assert states(run) == ["running"]
    assert "requested" not in phases(run)

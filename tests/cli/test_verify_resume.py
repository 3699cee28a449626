"""`xoron runs verify-resume`: the truth about a run's checkpoints, without touching the run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.attempts import begin, begin_next, train
from support.tiny import tiny_config, tiny_corpus
from typer.testing import CliRunner, Result

from xoron_core.cli import app
from xoron_core.cli.recorded import Difference, differences, section_of
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import KeeperRecord, RunDirectory

STEPS = 9


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with checkpoints of steps 3, 6 and 9."""
    home = tmp_path_factory.mktemp("home")
    corpus = tiny_corpus(home / "corpus", num_texts=12, num_pictures=4)
    config = tiny_config(corpus, {"checkpoint": {"keep_best": False}}, max_steps=STEPS, save_steps=3, eval_steps=4)
    run = begin(home, config)
    assert train(run) == ExitCode.COMPLETED
    return run


@pytest.fixture
def copied(trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy that may be spoiled."""
    return RunDirectory(Path(shutil.copytree(trained.path, tmp_path / "runs" / trained.id)))


def verify(run: RunDirectory, *words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["runs", "verify-resume", str(run.path), *words])
    if status == 0 and result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def refusal(run: RunDirectory, *words: str) -> str:
    result = verify(run, *words, status=1)
    assert isinstance(result.exception, RunDirectoryError)
    return str(result.exception)


def everything_in(run: RunDirectory) -> dict[str, tuple[int, bytes]]:
    """Every file below a run with the time of its last change."""
    return {
        str(path.relative_to(run.path)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(run.path.rglob("*"))
    }


def change_events(run: RunDirectory, kind: str, step: int, **values: Any) -> None:
    path = run.path / "events.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for record in records:
        if record["kind"] == kind and record.get("step") == step:
            record["values"] |= values
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_what_differs_is_found_and_nothing_else_does(copied: RunDirectory) -> None:
    change_events(copied, "metrics", 7, **{"text/loss": 1.0, "speed/steps_per_s": 1e9})
    change_events(copied, "eval", 8, **{"eval/loss": None})
    before = everything_in(copied)
    report = json.loads(verify(copied, "--steps", "2", "--checkpoint", "6", "--json", status=1).stdout)
    assert [(one["step"], one["metric"], one["run"]) for one in report["differences"]] == [
        (7, "text/loss", 1.0),
        (8, "eval/loss", None),
    ]
    assert report["is_same"] is False
    assert report["checkpoint"] == "checkpoints/step-00000006"
    assert (report["first_step"], report["last_step"], report["compared_steps"]) == (7, 8, [7, 8])
    assert report["num_values"] > 20 * len(report["compared_steps"])
    assert everything_in(copied) == before


@pytest.mark.slow
def test_a_run_resumes_to_the_same_and_is_not_touched(trained: RunDirectory) -> None:
    before = everything_in(trained)
    words = ["--home", str(trained.path.parent.parent), "--checkpoint", "3"]
    result = CliRunner().invoke(app, ["runs", "verify-resume", trained.id, *words])
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"steps 4 to {STEPS} after step-00000003 of run {trained.id}, attempt 1: the same" in result.stdout
    assert result.stdout.count("the same") == STEPS - 3 + 1
    assert everything_in(trained) == before


@pytest.mark.slow
def test_a_difference_is_shown_with_step_and_metric(copied: RunDirectory) -> None:
    change_events(copied, "metrics", 7, **{"text/loss": 1.0})
    told = verify(copied, "--steps", "1", "--checkpoint", "6", status=1).stdout
    assert "the first difference is at step 7, text/loss" in told
    assert "step 7  text/loss: run 1.0, replay" in told


@pytest.mark.slow
def test_another_version_of_torch_is_told_and_not_called_a_difference(copied: RunDirectory) -> None:
    path = copied.checkpoint_dir(6) / "state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(state | {"torch": "1.0.0"}), encoding="utf-8")
    told = refusal(copied, "--checkpoint", "6")
    assert "step-00000006 was written with torch 1.0.0, and this is torch" in told


def test_what_cannot_be_done_again_is_said_at_once(copied: RunDirectory) -> None:
    assert "has no checkpoint of step 5; there are: 3, 6, 9" in refusal(copied, "--checkpoint", "5")
    told = refusal(copied, "--steps", "7")
    assert "no checkpoint with 7 steps of training told after it" in told
    assert "3 after that of step 6, 6 after that of step 3" in told
    assert "there are none after any" in refusal(copied, "--checkpoint", str(STEPS))
    identity = ProcessIdentity.of_self()
    keeper = KeeperRecord(attempt=1, keeper=identity, started_at="now", inode=copied.path.stat().st_ino)
    copied.keeper_file.write_text(keeper.model_dump_json(), encoding="utf-8")
    assert "is still going on (attempt 1); stop or pause it first" in refusal(copied)


def test_the_newest_checkpoint_with_enough_after_it_is_taken(trained: RunDirectory) -> None:
    assert [(s.step, s.last_step) for s in (section_of(trained, None, n) for n in (None, 2, 4))] == [
        (6, 9),
        (6, 8),
        (3, 7),
    ]


def test_the_attempt_that_went_on_from_a_checkpoint_counts(copied: RunDirectory) -> None:
    begin_next(copied, copied.config(), 2, checkpoint="checkpoints/step-00000006")
    records = [
        {"kind": "receipt", "checkpoint": "checkpoints/step-00000006", "step": 6},
        {"kind": "metrics", "step": 7, "tokens": 1, "samples": 2, "values": {"text/loss": 1.5, "memory/peak_gib": 1.0}},
    ]
    path = copied.path / "events.jsonl"
    seq = len(path.read_text(encoding="utf-8").splitlines())
    with path.open("a", encoding="utf-8") as file:
        for number, record in enumerate(records, seq + 1):
            file.write(json.dumps({"seq": number, "time": "now", "attempt": 2, **record}) + "\n")
    section = section_of(copied, 6, None)
    assert (section.attempt, section.course) == (2, {7: {"text/loss": 1.5, "tokens": 1, "samples": 2}})


def test_differences_are_told_in_order_down_to_the_last_bit() -> None:
    run = {2: {"a": 0.1 + 0.2, "b": None}, 1: {"a": 1.0, "c": 2.0}}
    assert differences(run, run) == []
    assert differences(run, {1: {"a": 1.0}, 2: {"a": 0.3, "b": None, "d": 1}}) == [
        Difference(1, "c", 2.0, "missing"),
        Difference(2, "a", 0.1 + 0.2, 0.3),
        Difference(2, "d", "missing", 1),
    ]

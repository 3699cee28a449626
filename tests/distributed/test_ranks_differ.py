"""Two processes of which one meets what the other does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.attempts import begin, of_kind
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.last_words import CRASHED

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[1] / "support" / "odd_ranks.py"


def train_oddly(run: RunDirectory, oddity: str, timeout_s: float = 60.0) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, str(PROGRAM), oddity, str(run.path), "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )


def pictures_only(home: Path, num_pictures: int, batch_size: int) -> RunDirectory:
    corpus = tiny_corpus(home / "corpus", num_texts=3, num_pictures=num_pictures)
    overrides = {
        "data": {
            "sources": [{"name": "pictures", "category": "image_generation", "path": str(corpus / "pictures")}],
            "max_bad_fraction": 0.5,
        },
        "modalities": {"text": {"weight": 0.0}, "image_generation": {"batch_size": batch_size}},
        "resources": {"processes": 2},
    }
    return begin(home, tiny_config(corpus, overrides, max_steps=4, num_epochs=4, gradient_accumulation_steps=2))


def test_a_row_that_one_rank_cannot_read_is_counted_on_all_and_training_goes_on(tmp_path: Path) -> None:
    run = pictures_only(tmp_path, num_pictures=8, batch_size=1)
    train_oddly(run, "unreadable")
    assert [end.code for end in run.rank_ends(1)] == [ExitCode.COMPLETED] * 2
    told = of_kind(run, "bad_sample")
    assert {(event["source"], event["index"]) for event in told} <= {("pictures", 3)}
    assert of_kind(run, "metrics")[-1]["values"]["data/bad_samples"] == len(told)


def test_ranks_that_see_other_files_end_and_say_so(tmp_path: Path) -> None:
    run = pictures_only(tmp_path, num_pictures=8, batch_size=1)
    train_oddly(run, "other files")
    ends = {end.rank: (end.code, str(end.reason)) for end in run.rank_ends(1)}
    assert {code for code, _ in ends.values()} == {CRASHED}
    assert len(ends) == 2
    reason = "are to read different rows of image_generation; see that all of them find the same files"
    assert all("RanksDifferError" in told and reason in told for _, told in ends.values())


def test_a_rank_without_rows_takes_part_in_scaling_the_loss(tmp_path: Path) -> None:
    run = pictures_only(tmp_path, num_pictures=1, batch_size=1)
    train_oddly(run, "scaled")
    assert [(end.rank, end.code) for end in sorted(run.rank_ends(1), key=lambda end: end.rank)] == [
        (0, ExitCode.COMPLETED),
        (1, ExitCode.COMPLETED),
    ]
    assert [event["step"] for event in of_kind(run, "metrics")] == [1, 2, 3, 4]
    assert of_kind(run, "metrics")[-1]["values"]["optim/loss_scale"] == 2.0**10

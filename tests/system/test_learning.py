"""The demo learns all that it is given: `docs/quality.md` says what these bounds mean."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support.workbench import make_workbench

from xoron_core.contract.run_directory import RunDirectory
from xoron_core.modalities.tts.modality import Tts
from xoron_core.model.speech.mel import compute_mel_spectrogram
from xoron_core.training.checkpoint import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]


def test_the_demo_learns_every_modality(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "demo.py"), "--out", str(tmp_path), "--json", str(figures)]
    subprocess.run([*command, "training.eval_steps=300"], check=True, cwd=ROOT, env=os.environ)
    found = json.loads(figures.read_text(encoding="utf-8"))
    blind, last = found["blind"], found["held_out"]["1500"]
    assert last["eval/text/ce"] < blind["text"]
    for name in ("image_generation", "video_generation"):
        assert last[f"eval/{name}/loss"] < blind[name]
    for name in ("image_understanding", "video_understanding"):
        assert last[f"eval/{name}/loss"] < last[f"eval/{name}/shuffled_loss"]
    assert last["eval/asr/loss"] <= last["eval/asr/shuffled_loss"] - 0.1
    assert last["eval/tts/mel_loss"] < 0.8 * blind["tts"]
    early = found["held_out"]["300"]
    assert all(last[f"eval/{name}/loss"] < early[f"eval/{name}/loss"] for name in found["step_ms"])
    alignments_are_monotonic(RunDirectory(Path(found["run"])))


def alignments_are_monotonic(run: RunDirectory) -> None:
    """What the trained model aligns of held-out recordings begins at the first token, goes on one at a time, and ends
    at the last."""
    bench = make_workbench("tts")
    assert isinstance(bench.modality, Tts)
    weights = dict(read_checkpoint(run.checkpoint_dir(1500)).tensors["model"])
    own = bench.model.state_dict()
    bench.model.load_state_dict({name: weights[name] for name in own})
    batch = bench.modality.collate(bench.rows(35, split="heldout"))
    with torch.inference_mode():
        output = bench.modality._speak(bench.model, batch.tensors, compute_mel_spectrogram(batch.tensors["waveforms"]))
    for path_F, is_frame_F, is_token_N in zip(
        output.path_BF, output.frame_mask_BF, batch.tensors["token_mask"], strict=True
    ):
        path = path_F[is_frame_F].tolist()
        assert (path[0], path[-1]) == (0, int(is_token_N.sum()) - 1)
        assert {later - earlier for earlier, later in pairwise(path)} == {0, 1}

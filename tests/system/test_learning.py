"""The demo learns all that it is given: `docs/quality.md` says what these bounds mean."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]


def test_the_demo_learns_every_modality(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "demo.py"), "--out", str(tmp_path), "--json", str(figures)]
    subprocess.run([*command, "training.eval_steps=750"], check=True, cwd=ROOT, env=os.environ)
    found = json.loads(figures.read_text(encoding="utf-8"))
    blind, last = found["blind"], found["held_out"]["1500"]
    assert last["eval/text/ce"] < blind["text"]
    for name in ("image_generation", "video_generation"):
        assert last[f"eval/{name}/loss"] < blind[name]
    for name in ("image_understanding", "video_understanding"):
        assert last[f"eval/{name}/loss"] < last[f"eval/{name}/shuffled_loss"]
    assert last["eval/asr/loss"] <= last["eval/asr/shuffled_loss"] - 0.1
    assert last["eval/tts/mel_loss"] < 0.8 * blind["tts"]
    early = found["held_out"]["750"]
    assert all(last[f"eval/{name}/loss"] < early[f"eval/{name}/loss"] for name in found["step_ms"])

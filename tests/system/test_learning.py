"""The demo learns: held-out losses beat what can be had without looking at context, neighbours or prompt."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]


def test_the_demo_learns_text_and_pictures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "demo.py"), "--out", str(tmp_path), "--json", str(figures)]
    subprocess.run([*command, "training.eval_steps=300"], check=True, cwd=ROOT, env=os.environ)
    found = json.loads(figures.read_text(encoding="utf-8"))
    early, late = found["held_out"]["300"], found["held_out"]["1500"]
    assert early["text"] < found["unigram_entropy"]
    assert late["text"] < early["text"]
    assert early["image"] <= 1.7
    assert late["image"] < math.pi / 2 - 0.001
    assert found["image_loss_with_other_captions"] > found["image_loss"]

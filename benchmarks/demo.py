"""Does the `demo` preset start fast, run fast and learn? Runs the real trainer process and prints a table.

    python benchmarks/demo.py [--steps 1500] [--out FOLDER] [section.key=value …]

Measured: seconds from start to the first step; optimizer steps a second without evaluation, samples and checkpoints;
held-out losses at 300 steps and at the end, beside what they must beat: the unigram entropy of the training text, and
π/2, the flow loss of the best predictor that ignores neighbours and prompt (∫ 1 / (t² + (1−t)²) dt on unit-variance
latents); and the trained image loss with the captions of other pictures.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.files import parse_yaml
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.contract.sources import split_file
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.image_generation.modality import PictureSample
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training.build import build_model, pick_device, sources_with_modality
from xoron_core.training.checkpoint import read_checkpoint
from xoron_core.training.evaluation import EvaluationSet, evaluate


def unigram_entropy(config: RunConfig, tokenizer: Tokenizer) -> float:
    """Entropy of single tokens of the training text, in nats."""
    counts: Counter[int] = Counter()
    for index in config.sources_of("text"):
        source = config.data.sources[index]
        for line in split_file(source, source.split).read_text(encoding="utf-8").splitlines():
            counts.update(tokenizer.encode(json.loads(line)["text"]))
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


def train(config: RunConfig, home: Path) -> tuple[RunDirectory, float]:
    """A run of the trainer process to its end, and the seconds until its first step was done."""
    run = RunDirectory.create(home / "runs", new_record("benchmark", preset="demo"), config)
    run.write_attempt(
        AttemptRecord(attempt=1, reason="benchmark", created_at=clock.now(), checkpoint=None, config=config.to_dict())
    )
    begin, first_step_s = time.monotonic(), math.nan
    process = subprocess.Popen([sys.executable, "-m", "xoron_core.training", str(run.path), "1"])
    events = run.path / "events.jsonl"
    while process.poll() is None:
        if math.isnan(first_step_s) and events.exists() and '"kind":"metrics"' in events.read_text(encoding="utf-8"):
            first_step_s = time.monotonic() - begin
        time.sleep(0.05)
    assert process.returncode == 0, f"the trainer exited with {process.returncode}"
    return run, first_step_s


def read_events(run: RunDirectory) -> list[dict[str, Any]]:
    """Every event of a run."""
    return [json.loads(line) for line in (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def with_other_captions(held_out: EvaluationSet) -> None:
    """Give every held-out picture the caption of another."""
    samples = [s for s in held_out.samples["image_generation"] if isinstance(s, PictureSample)]
    captions = [sample.prompt_ids for sample in samples]
    order = random.Random(0).sample(range(len(captions)), len(captions))
    held_out.samples["image_generation"] = [
        replace(sample, prompt_ids=captions[other]) for sample, other in zip(samples, order, strict=True)
    ]


def shuffled_loss(config: RunConfig, run: RunDirectory, step: int) -> tuple[float, float]:
    """The trained model's held-out image loss with its own captions and with those of other pictures."""
    tokenizer = Tokenizer.load(config.model.tokenizer)
    modalities = enabled_modalities(config, tokenizer)
    device = pick_device(config)
    model = build_model(config, modalities, tokenizer, device)
    model.load_state_dict(dict(read_checkpoint(run.checkpoint_dir(step)).tensors["model"]))
    model.eval()
    held_out = EvaluationSet(sources_with_modality(config, modalities), modalities, config.evaluation)
    losses = []
    for change in (False, True):
        if change:
            with_other_captions(held_out)
        *_, result = evaluate(model, held_out.batches(), modalities, device)
        assert result is not None
        losses.append(result["eval/image_generation/loss"])
    return losses[0], losses[1]


def measure(config: RunConfig, home: Path) -> dict[str, Any]:
    """Everything that the table shows."""
    run, first_step_s = train(config, home)
    events = read_events(run)
    metrics = [event for event in events if event["kind"] == "metrics"]
    rates = [event["values"]["speed/steps_per_s"] for event in metrics[5:]]
    own, shuffled = shuffled_loss(config, run, metrics[-1]["step"])
    return {
        "run": str(run.path),
        "device": str(pick_device(config)),
        "threads": config.resources.threads or torch.get_num_threads(),
        "first_step_s": first_step_s,
        "steps_per_s": len(rates) / sum(1 / rate for rate in rates),
        "tokens_per_text_step": metrics[-1]["tokens"] / metrics[-1]["values"]["data/text/micro_batches"],
        "samples_per_image_step": config.modalities.image_generation.batch_size,
        "unigram_entropy": unigram_entropy(config, Tokenizer.load(config.model.tokenizer)),
        "held_out": {
            str(event["step"]): {
                "text": event["values"]["eval/text/ce"],
                "image": event["values"]["eval/image_generation/loss"],
            }
            for event in events
            if event["kind"] == "eval"
        },
        "image_loss": own,
        "image_loss_with_other_captions": shuffled,
    }


def show(found: dict[str, Any]) -> None:
    """The table."""
    last = max(map(int, found["held_out"]))
    print(f"run directory            {found['run']}")
    print(f"device, threads          {found['device']}, {found['threads']}")
    print(f"first step after         {found['first_step_s']:.1f} s")
    print(f"optimizer steps          {found['steps_per_s']:.2f} /s")
    print(f"text tokens a text step  {found['tokens_per_text_step']:.0f}")
    print(f"pictures an image step   {found['samples_per_image_step']}")
    print(f"to beat                  text {found['unigram_entropy']:.3f} (unigram)  image {math.pi / 2:.4f} (π/2)")
    for step, losses in found["held_out"].items():
        if int(step) in {100, 300, last} or int(step) % 500 == 0:
            print(f"held out at step {step:<7} text {losses['text']:.3f}  image {losses['image']:.4f}")
    own, other = found["image_loss"], found["image_loss_with_other_captions"]
    print(f"trained image loss       {own:.4f} with its captions, {other:.4f} with those of others")


def main() -> None:
    """Run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, help="keep the run's directory below this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    options = parser.parse_intermixed_args()
    overrides: dict[str, Any] = {"training": {"max_steps": options.steps}}
    for text in options.overrides:
        path, _, value = text.partition("=")
        *sections, key = path.split(".")
        place = overrides
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = parse_yaml(value)
    found = measure(resolve("demo", overrides), options.out or Path(tempfile.mkdtemp(prefix="xoron-benchmark-")))
    show(found)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

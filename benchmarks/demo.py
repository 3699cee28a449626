"""Does the `demo` preset start fast, run fast and learn? Runs the real trainer process and prints tables.

    python benchmarks/demo.py [--steps 1500] [--out FOLDER] [--json FILE] [section.key=value …]

Speed: seconds from start to the first step; optimizer steps a second without evaluation, samples and checkpoints; what
a step of each modality takes. Quality, on held-out rows with fixed noise, times and seeds: each modality's loss at the
end, beside the same model's loss with the pictures, clips, sounds, captions or texts of other rows, and beside what a
model reaches that looks at nothing: for text the unigram entropy of the training text; for flows π/2, the loss of the
best predictor that ignores neighbours and prompt (∫ 1 / (t² + (1−t)²) dt on unit-variance latents); for speech
synthesis the L1 distance of the per-bin mean of the training spectrograms.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.files import parse_yaml
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record
from xoron_core.data.audio import read_audio
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.model.speech.mel import SAMPLE_RATE, compute_mel_spectrogram
from xoron_core.training.build import pick_device

WARM_UP = 5
"""Steps of each modality that are not timed."""


def unigram_entropy(config: RunConfig, tokenizer: Tokenizer) -> float:
    """Entropy of single tokens of the training text, in nats."""
    counts: Counter[int] = Counter()
    for index in config.sources_of("text"):
        source = config.data.sources[index]
        with closing(open_source(source, source.split, None)) as reader:
            assert isinstance(reader, Source)
            for row in range(len(reader)):
                counts.update(tokenizer.encode(reader.read(row).text("text")))
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


def mean_spectrum_error(config: RunConfig) -> float:
    """L1 distance between held-out normalised mel spectrograms and the per-bin mean of those trained on, the mean over
    recordings, as `tts/mel_loss` is."""
    [index] = config.sources_of("tts")
    source = config.data.sources[index]
    assert source.eval_split is not None
    mean_M = torch.cat(spectrograms(config, source.split)).mean(dim=0)
    return fmean(float((mel_FM - mean_M).abs().mean()) for mel_FM in spectrograms(config, source.eval_split))


def spectrograms(config: RunConfig, split: str) -> list[torch.Tensor]:
    """The normalised mel spectrogram of every recording of a split, [frames, bins] each."""
    [index] = config.sources_of("tts")
    limit_s = config.modalities.tts.max_audio_s
    with closing(open_source(config.data.sources[index], split, None)) as reader:
        assert isinstance(reader, Source)
        sounds = [read_audio(reader.read(row), "audio", SAMPLE_RATE, limit_s) for row in range(len(reader))]
    return [compute_mel_spectrogram(torch.from_numpy(sound).unsqueeze(0))[0] for sound in sounds]


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


def step_seconds(metrics: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Seconds of every timed step by modality, where each step has one and is logged."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for event in metrics:
        trained = [name for name in modality_infos() if f"{name}/loss" in event["values"]]
        if len(trained) == 1:
            seconds[trained[0]].append(1 / event["values"]["speed/steps_per_s"])
    return {name: values[WARM_UP:] or values for name, values in seconds.items()}


def measure(config: RunConfig, home: Path) -> dict[str, Any]:
    """Everything that the tables show."""
    run, first_step_s = train(config, home)
    events = read_events(run)
    metrics = [event for event in events if event["kind"] == "metrics"]
    evaluations = {event["step"]: event for event in events if event["kind"] == "eval"}
    seconds = step_seconds(metrics)
    weights = config.modality_weights()
    bounds = {"text": unigram_entropy(config, Tokenizer.load(config.model.tokenizer))} if "text" in weights else {}
    bounds |= {name: math.pi / 2 for name in ("image_generation", "video_generation") if name in weights}
    bounds |= {"tts": mean_spectrum_error(config)} if "tts" in weights else {}
    return {
        "run": str(run.path),
        "device": str(pick_device(config)),
        "threads": config.resources.threads or torch.get_num_threads(),
        "first_step_s": first_step_s,
        "steps_per_s": 1 / fmean(fmean(values) for values in seconds.values()),
        "step_ms": {name: 1000 * fmean(values) for name, values in seconds.items()},
        "evaluation_s": fmean(event["seconds"] for event in evaluations.values()),
        "samples_per_step": {name: config.modalities.get(name).batch_size for name in weights},
        "tokens": metrics[-1]["tokens"],
        "blind": bounds,
        "held_out": {str(step): event["values"] for step, event in evaluations.items()},
    }


HEADLINES = {"text": "ce", "tts": "mel_loss"}
"""Terms by which a modality is judged, where that is not `loss`: what the bound beside it is about."""


def show(found: dict[str, Any]) -> None:
    """The tables, in Markdown."""
    steps = sorted(map(int, found["held_out"]))
    print(f"run directory {found['run']}, device {found['device']}, {found['threads']} threads\n")
    print(f"- first step after {found['first_step_s']:.1f} s")
    print(f"- {found['steps_per_s']:.2f} optimizer steps/s, an evaluation takes {found['evaluation_s']:.1f} s\n")
    print("| modality | ms a step | samples a step |\n|---|---|---|")
    for name, milliseconds in found["step_ms"].items():
        print(f"| {name} | {milliseconds:.0f} | {found['samples_per_step'][name] or '–'} |")
    shown = [step for step in steps if step in {100, 300, steps[-1]} or step % 500 == 0]
    print("\n| held out | " + " | ".join(f"step {step}" for step in shown) + " | shuffled | blind |")
    print("|---" * (len(shown) + 3) + "|")
    last = found["held_out"][str(steps[-1])]
    for name in found["step_ms"]:
        key = f"eval/{name}/{HEADLINES.get(name, 'loss')}"
        values = " | ".join(f"{found['held_out'][str(step)][key]:.3f}" for step in shown)
        shuffled, blind = last.get(f"eval/{name}/shuffled_loss"), found["blind"].get(name)
        print(f"| {name} | {values} | {_number(shuffled)} | {_number(blind)} |")
    others = {key: value for key, value in last.items() if key.rpartition("/")[2] not in {"loss", "shuffled_loss"}}
    print(f"\nfurther at step {steps[-1]}: " + ", ".join(f"{key[5:]} {value:.3f}" for key, value in others.items()))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


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

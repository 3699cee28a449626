"""What a GPU waits for data: the demo trained without workers, with them, and with one killed every few steps.

    python benchmarks/gpu_data.py [--steps 120] [--processes 1] [--cpu] [--json FILE]

The first losses of all three are the same but for the order of sums on a GPU, and the rows drawn are the same exactly.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record

WARM_UP = 20
COMPARED = 7
"""Steps whose losses are compared: one of each modality. Later ones drift apart, as any two runs on a GPU do."""
KILL_EVERY_S = 3.0


def config_of(num_workers: int | None, steps: int, device: str, processes: int) -> RunConfig:
    """The demo, its metrics told at every step."""
    training = {"max_steps": steps, "eval_steps": None, "save_steps": None, "sample_steps": None, "logging_steps": 1}
    return resolve(
        "demo",
        {
            "training": training,
            "data": {"num_workers": num_workers},
            "evaluation": {"max_per_dataset_eval": 1, "shuffled": False},
            "resources": {"device": device, "processes": processes},
        },
    )


def workers_of(trainer: psutil.Process) -> list[psutil.Process]:
    """The data workers below a trainer: children of the fork server."""
    return [
        child
        for child in trainer.children(recursive=True)
        if (parent := child.parent()) is not None and "forkserver" in " ".join(parent.cmdline())
    ]


def train(home: Path, config: RunConfig, *, kills: bool) -> tuple[list[dict[str, Any]], int]:
    """The events of a run, and how many workers were killed."""
    run = RunDirectory.create(home / "runs", new_record("data", preset="demo"), config)
    run.write_attempt(
        AttemptRecord(attempt=1, reason="benchmark", created_at=clock.now(), checkpoint=None, config=config.to_dict())
    )
    num_kills = 0
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(config.resources.num_processes), "-m"]
    command = [*(launcher if config.resources.num_processes > 1 else []), "xoron_core.training", str(run.path), "1"]
    with subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL) as process:
        next_kill = time.monotonic() + KILL_EVERY_S
        while process.poll() is None:
            time.sleep(0.05)
            if kills and time.monotonic() > next_kill:
                for worker in workers_of(psutil.Process(process.pid))[:1]:
                    os.kill(worker.pid, signal.SIGKILL)
                    num_kills += 1
                next_kill = time.monotonic() + KILL_EVERY_S
    assert process.returncode == 0, process.returncode
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], num_kills


def values(events: list[dict[str, Any]], name: str) -> list[float]:
    """A metric at every step."""
    return [event["values"][name] for event in events if event["kind"] == "metrics" and name in event["values"]]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = "cpu" if options.cpu else "cuda"
    rows: list[dict[str, Any]] = []
    reference: list[dict[str, Any]] = []
    print(
        "| workers | steps/s | share of the step that waits for data | killed | difference of the first losses | rows |"
    )
    print("|---|---|---|---|---|---|")
    for workers, kills in ((0, False), (2 if options.cpu else None, False), (2 if options.cpu else None, True)):
        with tempfile.TemporaryDirectory() as folder:
            events, num_kills = train(
                Path(folder), config_of(workers, options.steps, device, options.processes), kills=kills
            )
        reference = reference or events
        losses = zip(values(events, "train/loss"), values(reference, "train/loss"), strict=True)
        drawn = [
            {k: v for k, v in e["values"].items() if k.startswith("data/")} for e in events if e["kind"] == "metrics"
        ]
        same = drawn == [
            {k: v for k, v in e["values"].items() if k.startswith("data/")} for e in reference if e["kind"] == "metrics"
        ]
        row = {
            "workers": "default" if workers is None else workers,
            "steps_per_s": statistics.harmonic_mean(values(events, "speed/steps_per_s")[WARM_UP:]),
            "wait": statistics.mean(values(events, "speed/data_wait_share")[WARM_UP:]),
            "killed": num_kills,
            "difference": max(abs(mine - theirs) / abs(theirs) for mine, theirs in list(losses)[:COMPARED]),
            "rows": "the same" if same else "OTHERS",
        }
        rows.append(row)
        print(
            f"| {row['workers']} | {row['steps_per_s']:.2f} | {row['wait']:.3f} | {row['killed']} | "
            f"{row['difference']:.1e} | {row['rows']} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

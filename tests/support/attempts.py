"""Attempts of tiny runs, begun in this process or in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.runs import events
from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, new_record

ROOT = Path(__file__).parents[2]


def begin(home: Path, config: RunConfig) -> RunDirectory:
    """A new run whose first attempt may start."""
    run = RunDirectory.create(home / "runs", new_record("a test"), config)
    begin_next(run, config)
    return run


def begin_next(run: RunDirectory, config: RunConfig, attempt: int = 1, **record: Any) -> None:
    """Another attempt of a run."""
    values = {"reason": "test", "created_at": clock.now(), "checkpoint": None, "config": config.to_dict()}
    run.write_attempt(AttemptRecord(attempt=attempt, **{**values, **record}))


def of_kind(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    """The run's events of a kind."""
    return [event for event in events(run) if event["kind"] == kind]


def phases(run: RunDirectory) -> list[str]:
    """The phases that the run went through."""
    return [event["phase"] for event in of_kind(run, "phase")]


@contextmanager
def started(run: RunDirectory, attempt: int = 1, processes: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """The trainer of an attempt, or torchrun with several, its output in `train.log`; killed when left alive."""
    trainer = ["-m", "xoron_core.training", str(run.path), str(attempt)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with run.log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *(launcher if processes > 1 else []), *trainer],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "XORON_RUN_DIRECTORY": str(run.path)},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def train(run: RunDirectory, attempt: int = 1, processes: int = 1, timeout_s: float = 120.0) -> int:
    """Run an attempt to its end; the status of the process that was started."""
    with started(run, attempt, processes) as process:
        return process.wait(timeout_s)

"""The real trainer with faults put in: `faulty_trainer.py RUN_DIR ATTEMPT`, as the keeper starts it.

Which faults a run has stands in `HOME/faults/<name of the run>.json`; a run without such a file trains as always.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from xoron_core.contract.commands import ENDING
from xoron_core.contract.events import Event, PhaseEvent
from xoron_core.contract.run_directory import RunDirectory, attempt_config
from xoron_core.contract.writer import EventWriter

GATE_S = 120.0
CHECKPOINT_NAME_LENGTH = len("step-")


@dataclass(frozen=True)
class Fault:
    """What goes wrong: `kind` is a key of the tables below.

    `step`: it happens in the forward pass of this optimizer step. `attempts`: those that have it; empty: all.
    `rank`: the process that has it. `phase`: where a gate holds. `rows`: what fits into memory. `seconds`: how long.
    `samples`: those that it is bound to. `text`: its message.
    """

    kind: str
    step: int = 0
    attempts: tuple[int, ...] = (1,)
    rank: int = 0
    phase: str = ""
    rows: int = 0
    seconds: float = 0.0
    samples: tuple[str, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Fault":
        """From JSON, which has no tuples."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})


def faults_file(home: Path, name: str) -> Path:
    """Where the faults of the run of that name stand."""
    return home / "faults" / f"{name}.json"


def write_faults(home: Path, name: str, faults: Sequence[Fault]) -> None:
    """Give the run of that name these faults, from its next attempt on."""
    path = faults_file(home, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(fault) for fault in faults]))


def faults_of(run: RunDirectory, attempt: int, rank: int) -> list[Fault]:
    """The faults of this process."""
    path = faults_file(run.path.parents[1], run.record().name)
    if not path.exists():
        return []
    known = [Fault.of(entry) for entry in json.loads(path.read_text())]
    return [fault for fault in known if fault.rank == rank and attempt in (fault.attempts or (attempt,))]


def crash(fault: Fault) -> None:
    raise RuntimeError(fault.text or "the loss went to the moon")


def kill(fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def loop_in_python(fault: Fault) -> None:
    while True:
        pass


def loop_in_c(fault: Fault) -> None:
    """Never lets another thread, or a signal's handler written in Python, have a turn."""
    sum(cycle((0,)))


def block(fault: Fault) -> None:
    """Waits for what never comes, as a worker does whose peer has gone."""
    read_end, _ = os.pipe()
    os.read(read_end, 1)


def ignore_sigterm(fault: Fault) -> None:
    """Neither commands nor SIGTERM reach it any more, nor a process that it has put into a session of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"], start_new_session=True)  # what is ignored is inherited
    while True:
        time.sleep(1)


def wait(fault: Fault) -> None:
    time.sleep(fault.seconds)


AT_STEP: dict[str, Callable[[Fault], None]] = {
    "crash": crash,
    "kill": kill,
    "loop in Python": loop_in_python,
    "loop in C": loop_in_c,
    "block": block,
    "ignore SIGTERM": ignore_sigterm,
    "wait": wait,
}
"""Once, in the forward pass of a step."""


def slow_down(fault: Fault, batch: Any) -> None:
    select.select([], [], [], fault.seconds)  # time.sleep fails under libfaketime


def run_out_of_memory(fault: Fault, batch: Any) -> None:
    import torch

    rows = next(iter(batch.tensors.values())).shape[0]
    if rows > fault.rows:
        raise torch.OutOfMemoryError(f"CUDA out of memory. {rows} rows were tried, {fault.rows} fit")


IN_EVERY_BATCH: dict[str, Callable[[Fault, Any], None]] = {"slow": slow_down, "out of memory": run_out_of_memory}
"""Before every forward pass from a step on."""


def with_nan(fault: Fault, batch: Any, terms: dict[str, Any]) -> dict[str, Any]:
    if not any(one.startswith(fault.samples) for one in batch.sample_ids):
        return terms
    return {name: (value * float("nan"), count) for name, (value, count) in terms.items()}


OF_LOSSES: dict[str, Callable[[Fault, Any, dict[str, Any]], dict[str, Any]]] = {"nan": with_nan}
"""What becomes of the terms of the loss."""


def start_step(run: RunDirectory, attempt: int) -> int:
    """The step that an attempt goes on from."""
    checkpoint = run.attempt(attempt).checkpoint
    return 0 if checkpoint is None else int(Path(checkpoint).name[CHECKPOINT_NAME_LENGTH:])


def put_into_steps(run: RunDirectory, attempt: int, faults: Sequence[Fault]) -> None:
    """Make the model's training passes go wrong."""
    from xoron_core.model.xoron import XoronMultimodalModel

    start = start_step(run, attempt)
    window = attempt_config(run.attempt(attempt)).training.gradient_accumulation_steps
    plain = XoronMultimodalModel.forward
    num_passes = 0

    def forward(model: XoronMultimodalModel, task: str, batch: Any) -> Any:
        nonlocal num_passes
        if not model.training or not task.endswith(".loss"):
            return plain(model, task, batch)
        step, is_first = start + num_passes // window + 1, num_passes % window == 0
        num_passes += 1
        for fault in faults:
            if fault.kind in AT_STEP and fault.step == step and is_first:
                AT_STEP[fault.kind](fault)
            elif fault.kind in IN_EVERY_BATCH and step >= fault.step:
                IN_EVERY_BATCH[fault.kind](fault, batch)
        terms = plain(model, task, batch)
        for fault in faults:
            if fault.kind in OF_LOSSES:
                terms = OF_LOSSES[fault.kind](fault, batch, terms)
        return terms

    XoronMultimodalModel.forward = forward  # type: ignore[method-assign]


def hold_at_gates(run: RunDirectory, attempt: int, gates: Sequence[Fault]) -> None:
    """Stay in a phase until somebody asks to end."""
    plain = EventWriter.append
    waiting = {gate.phase for gate in gates}

    def is_asked_to_end() -> bool:
        return any(command.attempt == attempt and command.kind in ENDING for command in run.commands.after(0))

    def append(writer: EventWriter, event: Event) -> int:
        number = plain(writer, event)
        if isinstance(event, PhaseEvent) and event.phase in waiting:
            waiting.remove(event.phase)
            deadline = time.monotonic() + GATE_S
            while not is_asked_to_end() and time.monotonic() < deadline:
                time.sleep(0.01)
        return number

    EventWriter.append = append  # type: ignore[method-assign]


def main(arguments: list[str]) -> int:
    """Train with the faults of this run."""
    run, attempt = RunDirectory(Path(arguments[0])), int(arguments[1])
    faults = faults_of(run, attempt, int(os.environ.get("RANK", "0")))
    if gates := [fault for fault in faults if fault.kind == "gate"]:
        hold_at_gates(run, attempt, gates)
    if others := [fault for fault in faults if fault.kind != "gate"]:
        put_into_steps(run, attempt, others)
    from xoron_core.training.process import main as train

    return train(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What becomes of a run on GPUs when it is stopped, and when what surrounds it fails: a real server, a table.

    python benchmarks/gpu_faults.py [--cpu] [--json FILE]

Memory is what NVML says of the whole GPU, so nobody else should use it meanwhile. `--cpu` tries the program itself
where there is no GPU. With two GPUs or more it also trains on two ranks by NCCL beside one rank with the same global
batch, and asks for one run more than there are GPUs.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from server.gpus.inventory import open_inventory
from xoron_core.client import XoronClient
from xoron_core.contract import api
from xoron_core.contract.home import Home
from xoron_core.contract.states import ENDED

MIB = 2**20
DEADLINE_S = 90.0
QUICK = {
    "training": {"logging_steps": 1, "eval_steps": None, "sample_steps": None, "save_steps": 20},
    "trouble": {"restart_delay_s": 0.0},
}
HOG = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - int(sys.argv[1]) * 2**20, dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


class Bench:
    """A server process over a home of its own, and the rows of the table."""

    def __init__(self, folder: Path, device: str) -> None:
        self.home = Home(folder)
        self.device = device
        self.rows: list[tuple[str, str]] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.inventory = open_inventory(None if device == "cuda" else "-1")
        self.num_gpus = len(self.inventory.gpus())
        self.log = (folder / "server.log").open("wb")
        self.start_server()
        self.client = XoronClient(f"http://127.0.0.1:{self.port}")
        try:
            self.wait("the server answers", self._answers)
        except TimeoutError:
            print((folder / "server.log").read_text(encoding="utf-8"), file=sys.stderr)
            raise

    def start_server(self) -> None:
        """Start a server process."""
        settings = {"XORON_HOME": self.home.path, "XORON_PORT": self.port, "XORON_MAX_RUNS": max(1, self.num_gpus + 1)}
        environment = os.environ | {key: str(value) for key, value in settings.items()}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "server"], env=environment, stdout=self.log, stderr=self.log
        )

    def _answers(self) -> bool:
        with contextlib.suppress(Exception):
            return self.client.is_ready()
        return False

    def tell(self, what: str, seen: str) -> None:
        """A row of the table."""
        self.rows.append((what, seen))
        print(f"| {what} | {seen} |", flush=True)

    def wait(self, what: str, is_true: Callable[[], bool]) -> float:
        """Seconds until it is true."""
        begin = time.perf_counter()
        while not is_true():
            if time.perf_counter() - begin > DEADLINE_S:
                raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}")
            time.sleep(0.02)
        return time.perf_counter() - begin

    def create(self, name: str, *layers: dict[str, Any]) -> str:
        """Create a run on the device; text and pictures only, so that it needs no decoders of media."""
        config: dict[str, Any] = {"resources": {"device": self.device}, "modalities": {}}
        for other in ("image_understanding", "video_understanding", "video_generation", "asr", "tts"):
            config["modalities"][other] = {"weight": 0.0}
        for layer in (QUICK, *layers):
            for section, fields in layer.items():
                config.setdefault(section, {}).update(fields)
        return self.client.create_run(api.CreateRun(name=name, preset="demo", config=config)).id

    def until_step(self, run_id: str, step: int, attempt: int = 1) -> float:
        """Seconds until a run has done that step in that attempt or a later one."""

        def is_there() -> bool:
            run = self.client.run(run_id)
            if run.state in ENDED and run.step < step:
                raise RuntimeError(f"{run.name} is {run.state}: {run.reason}")
            return run.step >= step and run.attempt >= attempt

        return self.wait(f"step {step}", is_there)

    def until_state(self, run_id: str, *states: str) -> float:
        """Seconds until a run is in one of these states."""
        return self.wait(" or ".join(states), lambda: self.client.run(run_id).state in states)

    def memory(self) -> int:
        """Bytes in use on all GPUs."""
        return sum(gpu.memory_used for gpu in self.inventory.gpus())

    def steps(self, run_id: str) -> list[float]:
        """Steps that the course of a run has metrics of."""
        return self.client.series(run_id, ["train/loss"], points=100_000).series["train/loss"].x

    def losses(self, run_id: str) -> list[float | None]:
        """Its loss at each of them."""
        return self.client.series(run_id, ["train/loss"], points=100_000).series["train/loss"].y


def stop_and_resume(bench: Bench) -> str:
    """Start, stop, resume; memory before and after."""
    before = bench.memory()
    run_id = bench.create("stopped")
    first = bench.until_step(run_id, 1)
    bench.until_step(run_id, 15)
    during = bench.memory()
    resident = resident_mib(bench, run_id)
    begin = time.perf_counter()
    bench.client.stop(run_id)
    bench.until_state(run_id, "stopped")
    seconds, after = time.perf_counter() - begin, bench.memory()
    step = bench.client.run(run_id).step
    phases = [event["phase"] for event in bench.client.events(run_id, kinds=["phase"]).items]
    bench.tell("POST to the first step", f"{first:.1f} s")
    bench.tell("resident while the run trains", ", ".join(f"{name} {mib:.1f} MiB" for name, mib in resident.items()))
    bench.tell("stop to `stopped`", f"{seconds:.2f} s; {' → '.join(phases[phases.index('requested') :])}")
    held = f"{(during - before) / MIB:.0f} MiB while running, {(after - before) / MIB:.0f} MiB at `stopped`"
    bench.tell("GPU memory above what was used before", held)
    bench.client.resume(run_id)
    seconds = bench.until_step(run_id, step + 1, attempt=2)
    bench.tell("resume to the next step", f"{seconds:.1f} s, from step {step} on")
    return run_id


def resident_mib(bench: Bench, run_id: str) -> dict[str, float]:
    """Resident memory of a run's keeper and of what stands beside it."""
    keeper = bench.home.run(run_id).keeper()
    assert keeper is not None
    process = psutil.Process(keeper.keeper.pid)
    found = {"keeper": process.memory_info().rss / MIB}
    for child in process.children():
        if "server.gpus.watch" in child.cmdline():
            found["its watch of the GPUs"] = child.memory_info().rss / MIB
    return found


def kill_server(bench: Bench, run_id: str) -> None:
    """SIGKILL the server, start another, and see that it has everything and full control."""
    step = bench.client.run(run_id).step
    bench.server.kill()
    bench.server.wait()
    time.sleep(2)
    bench.start_server()
    seconds = bench.wait("the server answers", bench._answers)
    bench.until_step(run_id, step + 20, attempt=2)
    bench.tell("server killed and started again", f"answers after {seconds:.1f} s; {gaps(bench, run_id)}")


def kill_trainer(bench: Bench, run_id: str) -> None:
    """SIGKILL the trainer; its keeper goes on from the last checkpoint."""
    bench.until_step(run_id, bench.client.run(run_id).step + 25)
    keeper = bench.home.run(run_id).keeper()
    assert keeper is not None
    assert keeper.trainer is not None
    step = bench.client.run(run_id).step
    os.kill(keeper.trainer.pid, signal.SIGKILL)
    seconds = bench.wait("attempt 3", lambda: bench.client.run(run_id).attempt == 3)
    seconds += bench.until_step(run_id, step + 1, attempt=3)
    record = bench.home.run(run_id).attempt(3)
    told = f"attempt 3 ({record.cause}) from {record.checkpoint}; step {step + 1} again after {seconds:.1f} s"
    bench.tell("trainer killed", f"{told}; {gaps(bench, run_id)}")
    bench.client.cancel(run_id)
    bench.until_state(run_id, "cancelled")


def hang(bench: Bench) -> None:
    """SIGSTOP the trainer: no sign of life, stacks, restart."""
    run_id = bench.create("hung", {"trouble": {"hang_after_s": 15.0}, "training": {"save_steps": 10}})
    bench.until_step(run_id, 15)
    keeper = bench.home.run(run_id).keeper()
    assert keeper is not None
    assert keeper.trainer is not None
    os.kill(keeper.trainer.pid, signal.SIGSTOP)
    step = bench.client.run(run_id).step
    seconds = bench.until_step(run_id, step + 5, attempt=2)
    bench.tell("trainer stands still (`hang_after_s: 15`)", f"goes on {seconds:.1f} s later; {gaps(bench, run_id)}")
    bench.client.cancel(run_id)
    bench.until_state(run_id, "cancelled")


def out_of_memory(bench: Bench) -> None:
    """A batch that does not fit into what another program left free."""
    with hog(4000):
        layer = {
            "training": {"batch_size": 512, "max_steps": 12},
            "modalities": {"text": {"weight": 1.0, "batch_size": 512}},
        }
        run_id = bench.create("too large", layer)
        bench.until_state(run_id, *ENDED)
        run = bench.client.run(run_id)
        directory = bench.home.run(run_id)
        tried = []
        for attempt in range(1, run.attempt + 1):
            config = directory.attempt(attempt).config
            rows, accumulation = (
                config["modalities"]["text"]["batch_size"],
                config["training"]["gradient_accumulation_steps"],
            )
            tried.append(f"{rows} × {accumulation} ({directory.attempt(attempt).cause})")
        bench.tell("memory runs out: rows × accumulation", f"{' → '.join(tried)}; {run.state} at step {run.step}")


@contextlib.contextmanager
def hog(mib_left: int) -> Iterator[None]:
    """Another program that leaves so much memory of the first GPU."""
    command = [sys.executable, "-c", HOG, str(mib_left)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.communicate()


def two_ranks(bench: Bench) -> None:
    """Two ranks by NCCL beside one with the same global batch."""
    rows = {"text": {"batch_size": 4}, "image_generation": {"batch_size": 16}}
    doubled = {name: {"batch_size": 2 * fields["batch_size"]} for name, fields in rows.items()}
    plain = {"training": {"max_steps": 30, "bf16": False, "batch_size": 4}}
    losses = []
    for name, layer in (
        ("one rank", {**plain, "modalities": doubled}),
        ("two ranks", {**plain, "modalities": rows, "resources": {"processes": 2}}),
    ):
        run_id = bench.create(name, layer)
        bench.until_state(run_id, *ENDED)
        run = bench.client.run(run_id)
        if run.state != "completed":
            bench.tell(name, f"{run.state}: {run.reason}")
            return
        losses.append(bench.losses(run_id))
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses[1], losses[0], strict=True) if a is not None and b)
    first = abs((losses[1][0] or 0.0) - (losses[0][0] or 0.0)) / abs(losses[0][0] or 1.0)
    told = (
        f"relative difference of the loss {first:.1e} at step 1, {worst:.1e} at most in {len(losses[0])} steps (fp32)"
    )
    bench.tell("two ranks, NCCL, beside one with the same global batch", told)


def queue(bench: Bench) -> None:
    """One run more than there are GPUs."""
    ids = [bench.create(f"queued {number}") for number in range(bench.num_gpus + 1)]
    for run_id in ids[:-1]:
        bench.until_step(run_id, 5)
    held = [keeper.gpus for run_id in ids[:-1] if (keeper := bench.home.run(run_id).keeper()) is not None]
    last = bench.client.run(ids[-1])
    bench.tell(
        "one run more than GPUs",
        f"{len({g for gpus in held for g in gpus})} GPUs for {len(held)} runs; the other: {last.waiting}",
    )
    bench.client.stop(ids[0])
    seconds = bench.until_step(ids[-1], 1)
    bench.tell("the first is stopped: the waiting one steps", f"{seconds:.1f} s later")
    for run_id in ids[1:]:
        bench.client.cancel(run_id)
        bench.until_state(run_id, "cancelled")


def gaps(bench: Bench, run_id: str) -> str:
    """Whether the steps of a run's course are 1, 2, 3 …"""
    bench.until_step(run_id, bench.client.run(run_id).step + 3)
    steps = bench.steps(run_id)
    is_whole = steps == [float(step) for step in range(1, len(steps) + 1)]
    return "metrics without gap or repeat" if is_whole else f"GAPS: {len(steps)} points, the last {steps[-1]:g}"


def main() -> None:
    """Everything, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="try the program without a GPU")
    parser.add_argument("--json", type=Path, help="write the table here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), "cpu" if arguments.cpu else "cuda")
        try:
            run_id = stop_and_resume(bench)
            kill_server(bench, run_id)
            kill_trainer(bench, run_id)
            hang(bench)
            if not arguments.cpu:
                out_of_memory(bench)
            if bench.num_gpus >= 2:
                queue(bench)
                two_ranks(bench)
        except Exception as error:  # the rows so far are worth having
            bench.tell("FAILED", f"{type(error).__name__}: {error}")
            raise
        finally:
            if arguments.json:
                arguments.json.write_text(json.dumps(bench.rows, indent=1), encoding="utf-8")
            for run in bench.client.list_runs().items:
                if run.state not in ENDED:
                    bench.client.cancel(run.id)
                    bench.until_state(run.id, *ENDED)
            bench.server.terminate()
            bench.server.wait()


if __name__ == "__main__":
    main()

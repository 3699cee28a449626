"""A home, servers over it that may be killed, short runs of the `demo` preset with faults in them."""

import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from support.course import Undisturbed, undisturbed_by
from support.faulty_server import faulty_launch
from support.faulty_trainer import Fault, write_faults
from support.following import Follower
from support.run_processes import end_all, marked, wait_gone
from support.runs import wait_for
from support.serving import RunningServer, ServerProcess, server_in_thread, server_process
from xoron_core.contract.config.run import merge
from xoron_core.contract.home import Home
from xoron_core.contract.run_directory import RunDirectory

STEPS = 40
SAVE_STEPS = 5
HANG_S = 15.0
"""Longer than any part of a short run lasts without a sign of life, its start on a busy machine included."""
SPARE_THREADS = 2
SPARE_SOCKETS = 2
"""Connections that a client keeps for its next requests."""
MAX_INDEX_FILES = 2 * 8 + 1
"""Database and journal of each of the pool's connections, and what they share."""
LIVE_S = 150.0
"""The longest that anything may take, on a machine that is busy with something else, too."""

_SERVER = Path(__file__).with_name("faulty_server.py")
_OTHERS = ("image_understanding", "image_generation", "video_understanding", "video_generation", "asr", "tts")


def quick_config(overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """What makes a run of the `demo` preset last some seconds: text alone, 40 steps, a checkpoint after every fifth,
    one thread (another number of them gives other sums)."""
    quick = {
        "modalities": {"text": {"batch_size": 2}, **{name: {"weight": 0} for name in _OTHERS}},
        "training": {
            "max_steps": STEPS,
            "save_steps": SAVE_STEPS,
            "eval_steps": None,
            "sample_steps": None,
            "max_seq_length": 128,
        },
        "evaluation": {"max_per_dataset_eval": 1, "shuffled": False},
        "trouble": {"min_free_disk_gib": 0.0, "restart_delay_s": 0.0},
        "resources": {"device": "cpu", "threads": 1},
    }
    return merge(quick, overrides or {})


class FaultBench:
    """Serves one home, again and again, and creates runs in it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        folder.mkdir(exist_ok=True)
        self._names = (f"run {number}" for number in itertools.count(1))

    @contextlib.contextmanager
    def serve(self, **settings: Any) -> Iterator[RunningServer]:
        """A server in a thread of this process."""
        with server_in_thread(self.home.path, launch=faulty_launch(), **settings) as server:
            yield server

    @contextlib.contextmanager
    def serve_apart(self, **environment: str) -> Iterator[ServerProcess]:
        """A server in a process of its own, to be killed."""
        with server_process(self.home.path, [sys.executable, str(_SERVER)], **environment) as served:
            yield served

    def create(
        self, server: RunningServer, *faults: Fault, config: dict[str, Any] | None = None, **trouble: Any
    ) -> RunDirectory:
        """A run with these faults; `trouble` is laid over that section of its configuration."""
        name = next(self._names)
        write_faults(self.home.path, name, faults)
        row = server.create(merge(quick_config({"trouble": trouble}), config or {}), name=name)
        return self.home.run(row["id"])

    def give_faults(self, run: RunDirectory, *faults: Fault) -> None:
        """Replace a run's faults, from its next attempt on."""
        write_faults(self.home.path, run.record().name, faults)

    def close(self) -> None:
        """End whatever of the runs is left."""
        for run in self.home.run_directories():
            end_all(run)


def post(server: RunningServer, run: RunDirectory, verb: str, **body: Any) -> dict[str, Any]:
    """Ask something of a run; its row."""
    response = server.api.post(f"/runs/{run.id}/{verb}", json=body)
    assert response.status_code == 202, response.text
    return dict(response.json())


def wait_step(server: RunningServer, run: RunDirectory, step: int) -> dict[str, Any]:
    """The run's row, once that step is done."""
    return wait_for(lambda: (row := server.show(run.id))["step"] >= step and row, LIVE_S)


def wait_end(server: RunningServer, run: RunDirectory, state: str) -> dict[str, Any]:
    """The run's row in its end state, which is shown when no process is left but the keeper, and that goes next; any
    other end is a failure at once."""
    ends = {"completed", "failed", "stopped", "cancelled", "paused", state}
    row = server.wait_state(run.id, *ends, timeout_s=LIVE_S)
    left = marked(run)
    assert row["state"] == state, f"{row['state']}: {row['reason']}; the log: {log_of(run)[-3000:]}"
    assert not left, f"processes {left} of run {run.id} are there, and it is {state}"
    wait_gone(run)
    return row


def start_and_stop(bench: FaultBench, server: RunningServer, after_s: float) -> None:
    """Start a run, follow it for a while as a page does, stop it."""
    run = bench.create(server)
    server.wait_state(run.id, "starting", "running", timeout_s=LIVE_S)
    Follower(run.id).follow(server, lambda record: False, after_s)
    post(server, run, "stop")
    wait_end(server, run, "stopped")


def let_queue_go_by(bench: FaultBench, server: RunningServer) -> None:
    """Return when a run that came last was started, and is gone again: whatever else waited has had its turn."""
    run = bench.create(server)
    server.wait_state(run.id, "starting", "running", timeout_s=LIVE_S)
    post(server, run, "cancel")
    wait_end(server, run, "cancelled")


@dataclass(frozen=True)
class Holdings:
    """What a server's process holds: threads, sockets, open files but the index's, and those of the index, of which a
    pool keeps some."""

    num_threads: int
    num_sockets: int
    files: Counter[str]
    num_index_files: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Holdings":
        """At this moment."""
        files = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()]
        sockets = [name for name in files if name.startswith("socket:")]
        index = [name for name in files if "index.sqlite3" in name]
        others = Counter(files) - Counter(sockets) - Counter(index)
        return cls(process.num_threads(), len(sockets), others, len(index))

    def has_not_grown_to(self, later: "Holdings") -> bool:
        """Whether `later` is no more than what a server with work may take."""
        has_spare = (
            later.num_threads <= self.num_threads + SPARE_THREADS
            and later.num_sockets <= self.num_sockets + SPARE_SOCKETS
        )
        return not later.files - self.files and has_spare and later.num_index_files <= MAX_INDEX_FILES


def log_of(run: RunDirectory) -> str:
    """`train.log`."""
    return run.log_file.read_text(errors="replace")


def train_undisturbed(folder: Path, config: dict[str, Any] | None = None) -> Undisturbed:
    """The course of a run that nothing happens to."""
    bench = FaultBench(folder)
    try:
        with bench.serve() as server:
            run = bench.create(server, config=config)
            steps = wait_end(server, run, "completed")["step"]
            return undisturbed_by(run, steps)
    finally:
        bench.close()

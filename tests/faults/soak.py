"""Random faults for as long as you like: `make soak MINUTES=60 SEED=1`.

Rounds of one or two short runs of the `demo` preset, into which faults are injected at random moments until both are
complete; after each round everything that is promised is checked. A table of what was done is printed at the end; the
exit status is 1 when something did not hold.
"""

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from support.course import Undisturbed, assert_same, story
from support.fault_bench import FaultBench, Holdings, post, start_and_stop, train_undisturbed
from support.faulty_trainer import Fault
from support.run_damage import boot_before_this_one, cut_last_line, flip_a_byte
from support.run_processes import all_of, kill_keeper, kill_trainer, marked, wait_gone
from support.runs import wait_for
from support.serving import RunningServer, ServerProcess

from xoron_core.contract.derive import keeper_is_alive
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import complete_checkpoints

LIVE_S = 300.0
HANG_S = 20.0
SLOW = Fault("slow", seconds=0.1, attempts=())
OFTEN = {"max_restarts": 50, "max_interruptions": 50, "max_hangs": 50, "hang_after_s": HANG_S}
NUM_STARTS = 5
GIVEN_UP = ("the same way at step", "before its first step")
"""What waits for a person by policy; here, one is at hand."""


@dataclass
class Tally:
    """What one kind of fault came to."""

    times: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass
class Round:
    """Some runs on their way through faults."""

    runs: list[RunDirectory]

    def open(self, server: RunningServer) -> list[RunDirectory]:
        """Those that are not complete."""
        return [run for run in self.runs if server.show(run.id)["state"] != "completed"]


class Soak:
    """Serves a home, disturbs what runs in it, counts."""

    def __init__(self, bench: FaultBench, seed: int, undisturbed: Undisturbed) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.undisturbed = undisturbed
        self.tally: dict[str, Tally] = {}
        self.num_runs = self.num_attempts = self.num_resumed_by_hand = 0
        self._deck: list[str] = []
        self._stack = contextlib.ExitStack()
        self._served: ServerProcess | None = None
        self.faults: dict[str, Callable[[RunDirectory], None]] = {
            "server killed": self.kill_server,
            "trainer killed": self.kill_trainer,
            "keeper killed": self.kill_keeper,
            "keeper and trainer killed": self.kill_both,
            "everything killed, last line torn, another boot": self.cut_power,
            "trainer held by SIGSTOP": self.hold_trainer,
            "stopped and resumed": lambda run: self.end_and_resume(run, "stop", "stopped"),
            "paused and resumed": lambda run: self.end_and_resume(run, "pause", "paused"),
            "stopped, newest checkpoint damaged, resumed": self.damage_checkpoint,
            "index deleted, server killed": self.delete_index,
            f"{NUM_STARTS} starts and stops": self.start_and_stop,
        }

    @property
    def server(self) -> RunningServer:
        """The server of this moment."""
        if self._served is None:
            self._served = self._stack.enter_context(self.bench.serve_apart(XORON_MAX_RUNS="3"))
        return self._served.server

    def end_server(self) -> None:
        """SIGKILL; the next look at `server` starts another."""
        assert self.server is not None
        assert self._served is not None
        self._served.kill()
        self._stack.close()
        self._served = None

    def close(self) -> None:
        """End the server and every run."""
        self._stack.close()
        self.bench.close()

    def play(self, minutes: float) -> None:
        """Rounds until the time is up; the one under way is finished."""
        deadline = time.monotonic() + 60 * minutes
        while time.monotonic() < deadline:
            self.play_round(deadline)

    def play_round(self, deadline: float) -> None:
        """Runs from their start to their end, with a fault every few seconds."""
        count = self.random.choice([1, 1, 2])
        runs = [self.bench.create(self.server, SLOW, **OFTEN) for _ in range(count)]
        self.num_runs += count
        self.pause()
        while time.monotonic() < deadline and (left := Round(runs).open(self.server)):
            self.disturb(self.random.choice(left))
            self.pause()
        for run in runs:
            self.complete(run)
            wait_gone(run)
            assert_same(self.server, run.id, self.undisturbed)
            self.num_attempts += len(story(run))
        assert self.server.root.get("/readyz").status_code == 200

    def pause(self) -> None:
        """Let some steps pass, or not even the start."""
        time.sleep(self.random.uniform(0.0, 6.0))

    def disturb(self, run: RunDirectory) -> None:
        """One fault, and then: the run is live again, or complete."""
        name = self.draw()
        step = self.server.show(run.id)["step"]
        print(f"{time.strftime('%H:%M:%S')} {run.id} at step {step}: {name}", flush=True)  # noqa: T201 -- a program
        begin = time.monotonic()
        self.faults[name](run)
        self.bring_back(run)
        entry = self.tally.setdefault(name, Tally())
        entry.times += 1
        entry.seconds.append(time.monotonic() - begin)

    def draw(self) -> str:
        """A fault; each has its turn before one comes again."""
        if not self._deck:
            self._deck = self.random.sample(list(self.faults), len(self.faults))
        return self._deck.pop()

    def bring_back(self, run: RunDirectory) -> None:
        """Wait until the run has done another step or is complete; what the policy leaves to a person is resumed."""
        before = num_steps_told(run)

        def is_back() -> bool:
            row = self.server.show(run.id)
            why = f"{row['reason']}; {row['trouble'] and row['trouble']['reason']}"
            if row["state"] == "failed" or (row["state"] == "interrupted" and GIVEN_UP[0] in why):
                assert any(words in why for words in GIVEN_UP), why
                self.num_resumed_by_hand += 1
                post(self.server, run, "resume")
            if row["state"] == "running":
                assert keeper_is_alive(run, row["attempt"]) or self.is_corrected(run)
            return row["state"] == "completed" or (row["state"] == "running" and num_steps_told(run) > before)

        try:
            wait_for(is_back, LIVE_S)
        except TimeoutError as error:
            row = self.server.show(run.id)
            told = f"{row['state']} ({row['reason']}), {row['phase']}, {row['waiting']}, {story(run)}"
            raise TimeoutError(f"run {run.id} is not back in {LIVE_S:g} s: {told}") from error

    def is_corrected(self, run: RunDirectory) -> bool:
        """Whether a run without a keeper is shown as anything but running within a second."""
        with contextlib.suppress(TimeoutError):
            return bool(wait_for(lambda: self.server.show(run.id)["state"] != "running", 1.0))
        return False

    def complete(self, run: RunDirectory) -> None:
        """Wait for the run's end."""

        def is_complete() -> bool:
            self.bring_back(run)
            return bool(self.server.show(run.id)["state"] == "completed")

        wait_for(is_complete, LIVE_S)

    def kill_server(self, run: RunDirectory) -> None:
        self.end_server()

    def kill_trainer(self, run: RunDirectory) -> None:
        with contextlib.suppress(ProcessLookupError, TimeoutError):  # the end of the run was quicker
            kill_trainer(run)

    def kill_keeper(self, run: RunDirectory) -> None:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            kill_keeper(run)

    def kill_both(self, run: RunDirectory) -> None:
        for pid in all_of(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut_power(self, run: RunDirectory) -> None:
        """Of this run; the others of the round lose their server only."""
        self.end_server()
        self.kill_both(run)
        wait_gone(run)
        if (keeper := run.keeper()) is not None and keeper.trainer is not None and (run.path / "events.jsonl").exists():
            cut_last_line(run)
            boot_before_this_one(run)

    def hold_trainer(self, run: RunDirectory) -> None:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            kill_trainer(run, signal.SIGSTOP)
        if marked(run):
            attempt = self.server.show(run.id)["attempt"]
            wait_for(lambda: self.has_moved_on(run, attempt), LIVE_S)

    def has_moved_on(self, run: RunDirectory, attempt: int) -> bool:
        row = self.server.show(run.id)
        return bool(row["attempt"] > attempt or row["state"] in {"failed", "completed"})

    def end_and_resume(self, run: RunDirectory, verb: str, state: str) -> None:
        response = self.server.api.post(f"/runs/{run.id}/{verb}")
        if response.status_code == 409:  # it is complete, or waits to be resumed
            return
        assert response.status_code == 202, response.text
        row = self.server.wait_state(run.id, state, "completed", timeout_s=LIVE_S)
        if row["state"] == state:
            wait_gone(run)
            post(self.server, run, "resume")

    def damage_checkpoint(self, run: RunDirectory) -> None:
        response = self.server.api.post(f"/runs/{run.id}/stop")
        if response.status_code == 409:
            return
        row = self.server.wait_state(run.id, "stopped", "completed", timeout_s=LIVE_S)
        wait_gone(run)
        saved = complete_checkpoints(run.checkpoints)
        if row["state"] == "stopped":
            if len(saved) > 1:
                flip_a_byte(saved[-1] / "model.safetensors")
            post(self.server, run, "resume")

    def delete_index(self, run: RunDirectory) -> None:
        self.end_server()
        for path in self.bench.home.path.glob("index.sqlite3*"):
            path.unlink()

    def start_and_stop(self, run: RunDirectory) -> None:
        """Other runs, while this one goes on; the server holds as much after them as before."""
        assert self.server is not None
        assert self._served is not None
        process = psutil.Process(self._served.process.pid)
        start_and_stop(self.bench, self.server, 0.0)
        before = Holdings.of(process)
        for _ in range(NUM_STARTS):
            start_and_stop(self.bench, self.server, self.random.choice([0.0, 0.5, 3.0]))
        wait_for(lambda: before.has_not_grown_to(Holdings.of(process)), 20.0)

    def table(self) -> str:
        """What was done, in Markdown."""
        lines = ["| fault | times | median until it trains again, s | longest, s |", "|---|---|---|---|"]
        for name, entry in sorted(self.tally.items(), key=lambda item: -item[1].times):
            median, longest = statistics.median(entry.seconds), max(entry.seconds)
            lines.append(f"| {name} | {entry.times} | {median:.1f} | {longest:.1f} |")
        lines.append("")
        lines.append(
            f"{self.num_runs} runs in {self.num_attempts} attempts, {self.num_resumed_by_hand} of them resumed by hand "
            "where the policy leaves it to a person."
        )
        return "\n".join(lines)


def num_steps_told(run: RunDirectory) -> int:
    """Steps in the run's events, those that were done twice counted twice."""
    path = run.path / "events.jsonl"
    return path.read_bytes().count(b'"kind":"metrics"') if path.exists() else 0


def main() -> int:
    """Soak; 0 when everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="xoron-soak-", ignore_cleanup_errors=True) as name:
        undisturbed = train_undisturbed(Path(name) / "undisturbed")
        soak = Soak(FaultBench(Path(name) / "disturbed"), given.seed, undisturbed)
        failure = ""
        try:
            soak.play(given.minutes)
        except (AssertionError, TimeoutError, OSError):
            failure = traceback.format_exc()
        finally:
            soak.close()
    minutes = (time.monotonic() - begin) / 60
    print(f"\nSeed {given.seed}, {minutes:.0f} minutes. {'It FAILED.' if failure else 'Everything held.'}\n")  # noqa: T201
    print(soak.table() + ("\n\n" + failure if failure else ""))  # noqa: T201
    return int(bool(failure))


if __name__ == "__main__":
    sys.exit(main())

"""The server's inner parts without HTTP: index, ingest, service and dispatcher over a real home, with paper keepers."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from server.db import open_database
from server.gpus.inventory import GpuInfo
from server.gpus.leases import Lease, Leases
from server.gpus.pool import GpuPool
from server.metrics.follower import Follower
from server.metrics.ingest import Ingest, Listeners
from server.runs.children import Children
from server.runs.dispatcher import Dispatcher
from server.runs.index import RunIndex
from server.runs.service import RunService
from server.runs.store import RunRow
from support.paper_keepers import PaperLaunch
from xoron_core.contract.api import CreateRun
from xoron_core.contract.home import Home
from xoron_core.contract.process import ProcessIdentity
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState

QUICK = {"trouble": {"min_free_disk_gib": 0.0, "restart_delay_s": 0.0}}
GIB = 2**30


class PaperGpus:
    """GPUs that nobody built; `faults` are those that are lost, and why."""

    def __init__(self, *uuids: str) -> None:
        self.uuids = list(uuids)
        self.faults: dict[str, str] = {}

    def gpus(self) -> list[GpuInfo]:
        return [GpuInfo(uuid, "Paper 9000", 80 * GIB, GIB) for uuid in self.uuids]

    def lost(self, uuids: Any) -> str | None:
        return "; ".join(f"GPU {uuid}: {self.faults[uuid]}" for uuid in uuids if uuid in self.faults) or None

    def close(self) -> None:
        return


class Clerk:
    """`now_s` is the dispatcher's clock; `seen` are the states that each run was announced in."""

    def __init__(self, folder: Path, *, max_runs: int = 1, gpus: PaperGpus | None = None) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.home.prepare()
        self.launch = PaperLaunch()
        self.now_s = 0.0
        self.seen: dict[str, list[RunState]] = {}
        self.database = open_database(f"sqlite:///{self.home.database}")
        children = Children()
        self.index = RunIndex(self.home, self.database, children)
        self.index.on_change.append(self._saw)
        self.ingest = Ingest(self.index, Listeners())
        self.index.on_refresh.append(self.ingest.wake)
        self.leases = Leases(folder / "leases")
        pool = GpuPool(gpus or PaperGpus(), self.leases, self.home.runs)
        self.pool = pool
        self.service = RunService(self.index, self.ingest, pool.count)
        self.dispatcher = Dispatcher(
            self.service, self.index, children, self.launch, pool, max_runs, lambda: self.now_s
        )
        self.ingest.start()
        assert self.ingest.has_caught_up.wait(30)

    def _saw(self, row: RunRow) -> None:
        states = self.seen.setdefault(row.id, [])
        if not states or states[-1] is not row.state:
            states.append(row.state)

    def create(self, config: dict[str, Any] | None = None, **body: Any) -> RunDirectory:
        """A run of the `demo` preset that waits."""
        config = {**QUICK, "resources": {"device": "cpu"}, **(config or {})}
        row, _ = self.service.create(CreateRun(preset="demo", config=config, **body), None)
        return self.home.run(row.id)

    def running(self, config: dict[str, Any] | None = None, **trouble: float) -> RunDirectory:
        """A run that is under way."""
        run = self.create({**(config or {}), "trouble": {**QUICK["trouble"], **trouble}})
        self.tick()
        self.launch.keepers[run.id].runs()
        assert self.row(run.id).state is RunState.RUNNING
        return run

    def interrupt(self, run: RunDirectory, *, is_saving: bool, trainer: ProcessIdentity | None = None) -> None:
        """Its keeper dies, and the server looks."""
        self.launch.keepers[run.id].dies(is_saving=is_saving, trainer=trainer)
        self.row(run.id)
        self.tick()

    def row(self, run_id: str) -> RunRow:
        """What the index has, once it has all that the run said."""
        self.ingest.catch_up(run_id)
        return self.index.refresh(run_id)

    def tick(self) -> None:
        """One look of the dispatcher, with all that was said known before and after."""
        for run_id in self.index.known():
            self.ingest.catch_up(run_id)
        self.dispatcher.tick()
        for run_id in self.index.known():
            self.ingest.catch_up(run_id)

    def waiting(self) -> list[str]:
        """The queue, the next one first."""
        return [row.id for row in self.service.queue()]

    def reason(self, run_id: str) -> str:
        """Why a run waits."""
        waiting = self.row(run_id).waiting
        assert waiting is not None
        return waiting.reason

    def hold_leases(self) -> dict[str, list[Lease]]:
        """What each launched run was given, held as a keeper holds it."""
        held: dict[str, list[Lease]] = {}

        def hold(run: RunDirectory, leases: Sequence[Lease]) -> None:
            held[run.id] = [Lease(lease.uuid, os.dup(lease.fd)) for lease in leases]

        self.launch.inherit = hold
        return held

    def end(self, run_id: str, leased: dict[str, list[Lease]]) -> None:
        """A run completes, and its GPUs are free."""
        self.launch.keepers[run_id].runs()
        self.launch.keepers[run_id].ends(RunState.COMPLETED)
        for lease in leased.pop(run_id):
            lease.release()
        self.row(run_id)

    def rebuilt(self) -> dict[str, RunRow]:
        """The rows of an index that is made from the run directories alone."""
        path = self.folder / "rebuilt.sqlite3"
        shutil.copy(self._empty_index(), path)
        database = open_database(f"sqlite:///{path}")
        index = RunIndex(self.home, database, Children())
        rows = {}
        for run in self.home.run_directories():
            follower = Follower(index, run, index.refresh(run.id))
            while follower.read(1 << 20):
                follower.commit()
            follower.pause()
            rows[run.id] = index.refresh(run.id)
        database.close()
        return rows

    def _empty_index(self) -> Path:
        path = self.folder / "empty.sqlite3"
        if not path.exists():
            open_database(f"sqlite:///{path}").close()
        return path

    def close(self) -> None:
        self.ingest.close()
        self.pool.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""The GPUs that this server may give to runs: which are free, who has the others."""

import threading
from pathlib import Path

from server.gpus.inventory import GpuInfo, Inventory
from server.gpus.leases import Lease, Leases
from xoron_core.contract.api import Gpu
from xoron_core.contract.run_directory import RunDirectory


class GpuPool:
    """Leases GPUs of `inventory` to the runs in the folder `runs`; any thread."""

    def __init__(self, inventory: Inventory, leases: Leases, runs: Path) -> None:
        self._inventory = inventory
        self._leases = leases
        self._runs = runs
        self._lock = threading.Lock()  # the driver is asked by one thread at a time
        self.count = len(inventory.gpus())
        """GPUs that there were at the start: one that is lost since is still waited for."""

    def take(self, count: int, run: RunDirectory) -> list[Lease] | None:
        """`count` leases, to be released by the caller, or None when there are not so many."""
        with self._lock:
            usable = [gpu.uuid for gpu in self._inventory.gpus() if self._inventory.lost([gpu.uuid]) is None]
            return self._leases.take(usable, count, str(run.path))

    def shortage(self, count: int) -> str:
        """Why so many are not to be had, in words."""
        with self._lock:
            present = [gpu.uuid for gpu in self._inventory.gpus()]
            lost = {uuid: reason for uuid in present if (reason := self._inventory.lost([uuid])) is not None}
            holders = self._leases.holders(uuid for uuid in present if uuid not in lost)
        owners = [self._run_of(holder) or "another program's lease" for holder in holders.values()]
        others = [*dict.fromkeys(owners), *lost.values()]
        num_silent = self.count - len(present)
        if num_silent:
            others.append(f"{num_silent} no longer answer{'s' if num_silent == 1 else ''}")
        num_free = len(present) - len(lost) - len(holders)
        words = f"waits for {count} GPU{'' if count == 1 else 's'}; {num_free} of {self.count} "
        words += "is free" if num_free == 1 else "are free"
        return f"{words} (others: {', '.join(others)})" if others else words

    def shown(self) -> list[Gpu]:
        """Every GPU, with who has it."""
        with self._lock:
            gpus = self._inventory.gpus()
            holders = self._leases.holders(gpu.uuid for gpu in gpus)
        return [self._view(gpu, holders.get(gpu.uuid)) for gpu in gpus]

    def _view(self, gpu: GpuInfo, holder: str | None) -> Gpu:
        return Gpu(
            uuid=gpu.uuid,
            name=gpu.name,
            memory_total=gpu.memory_total,
            memory_used=gpu.memory_used,
            run=None if holder is None else self._run_of(holder),
            is_leased=holder is not None,
        )

    def _run_of(self, holder: str) -> str | None:
        """The run of this home that a holder is."""
        path = Path(holder)
        return path.name if path.parent == self._runs else None

    def close(self) -> None:
        """Let go of the driver."""
        self._inventory.close()

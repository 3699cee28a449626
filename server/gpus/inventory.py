"""The GPUs of this machine by NVML, and what is wrong with them. The one place that knows whether there is a driver."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xoron_core.contract.errors import ConfigError

NO_GPU = frozenset({"", "-1", "none", "void", "NoDevFiles"})
"""What `CUDA_VISIBLE_DEVICES` and its like say where no GPU may be used."""

XIDS = {
    48: "double-bit memory error",
    62: "internal micro-controller halted",
    64: "memory row cannot be remapped",
    79: "GPU has fallen off the bus",
    95: "uncontained memory error",
    119: "system processor does not answer",
    120: "system processor failed",
    140: "unrecovered memory error",
}
"""Errors after which a GPU cannot be used until it is reset or looked at (NVIDIA, "XID Errors", deployment guide)."""


@dataclass(frozen=True)
class GpuInfo:
    """One GPU; memory in bytes."""

    uuid: str
    name: str
    memory_total: int
    memory_used: int


class Inventory(Protocol):
    """What is known of the GPUs that may be used."""

    def gpus(self) -> list[GpuInfo]:
        """Those that answer, in the order of their indices."""

    def lost(self, uuids: Sequence[str]) -> str | None:
        """Why one of these cannot be used any more; None where all can."""

    def close(self) -> None:
        """Let go of the driver."""


class NoGpus:
    """A host without a driver, or one whose GPUs are not for us."""

    def gpus(self) -> list[GpuInfo]:
        """None."""
        return []

    def lost(self, uuids: Sequence[str]) -> str | None:
        """What is not there cannot go."""
        return None

    def close(self) -> None:
        """Nothing is open."""


class NvmlInventory:
    """GPUs through NVML; `allowed` are indices and UUIDs (or their beginnings), None: all.

    Raises: ConfigError for one that this host does not have; the library's error where there is no driver.
    """

    def __init__(self, nvml: Any, allowed: Sequence[str] | None) -> None:
        nvml.nvmlInit()
        self._nvml = nvml
        self._xids: dict[str, str] = {}
        found: dict[str, Any] = {}
        by_index: list[str | None] = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = str(nvml.nvmlDeviceGetUUID(handle))
            except nvml.NVMLError:  # lost, or not for this user: it is not there
                by_index.append(None)
                continue
            found[uuid] = handle
            by_index.append(uuid)
        uuids = list(found) if allowed is None else [_match(word, by_index) for word in allowed]
        self._handles = {uuid: found[uuid] for uuid in uuids}
        self._events = {uuid: nvml.nvmlEventSetCreate() for uuid in uuids}
        for uuid, handle in self._handles.items():
            # some drivers and virtual machines tell no Xids; a lost GPU is then known by its silence alone
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events[uuid])

    def gpus(self) -> list[GpuInfo]:
        """Those that answer, in the order of their indices."""
        return self._ask()[0]

    def _ask(self) -> tuple[list[GpuInfo], dict[str, str]]:
        """Those that answer now, and why the others do not."""
        found, silent = [], {}
        for uuid, handle in self._handles.items():
            try:
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                name = str(self._nvml.nvmlDeviceGetName(handle))
            except self._nvml.NVMLError as error:
                silent[uuid] = str(error)
                continue
            found.append(GpuInfo(uuid, name, int(memory.total), int(memory.used)))
        return found, silent

    def lost(self, uuids: Sequence[str]) -> str | None:
        """Why one of these cannot be used any more; None where all can. An Xid stays, a silence may pass."""
        self._take_xids()
        told = self._ask()[1] | self._xids  # an Xid says more
        reasons = [f"GPU {uuid}: {told[uuid]}" for uuid in uuids if uuid in told]
        return "; ".join(reasons) or None

    def _take_xids(self) -> None:
        for uuid, events in self._events.items():
            # without news this is a timeout; of a GPU that is gone it may be anything, and `_ask` will find out
            with contextlib.suppress(self._nvml.NVMLError):
                while True:
                    xid = self._nvml.nvmlEventSetWait_v2(events, 0).eventData
                    if xid in XIDS:
                        self._xids[uuid] = f"Xid {xid}: {XIDS[xid]}"

    def close(self) -> None:
        """Let go of the driver."""
        for events in self._events.values():
            self._nvml.nvmlEventSetFree(events)
        self._nvml.nvmlShutdown()


def open_inventory(allowed: str | None) -> Inventory:
    """The GPUs of this host: those that `allowed` names (indices and UUIDs, separated by commas), None: all.

    Raises: ConfigError for a GPU that this host does not have.
    """
    words = None if allowed is None else [word.strip() for word in allowed.split(",")]
    if words is not None and set(words) <= NO_GPU:
        return NoGpus()
    import pynvml

    try:
        return NvmlInventory(pynvml, words)
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded, pynvml.NVMLError_NoPermission):
        return NoGpus()


def _match(word: str, uuids: Sequence[str | None]) -> str:
    """The UUID that a word means; `uuids` by index, None for a GPU that does not answer."""
    if word.isdigit():
        found = [uuid for uuid in uuids[int(word) : int(word) + 1] if uuid is not None]
    else:
        found = [uuid for uuid in uuids if uuid is not None and uuid.startswith(word)]
    if len(found) != 1:
        known = ", ".join(f"{index} ({uuid or 'does not answer'})" for index, uuid in enumerate(uuids)) or "none"
        raise ConfigError.of("XORON_GPUS", f"names a GPU that is not here, or several; there are: {known}", word)
    return found[0]

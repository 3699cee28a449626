"""Leases of GPUs, and what the driver says of them."""
# ruff: noqa: N802 -- the driver's names

import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from server.gpus.inventory import NoGpus, NvmlInventory, open_inventory
from server.gpus.leases import GLANCE_S, Leases, fds
from xoron_core.contract.errors import ConfigError

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb33")


def test_a_gpu_is_leased_once(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "gpus")
    first = leases.take(UUIDS, 2, "run-1")
    assert first is not None
    assert [lease.uuid for lease in first] == ["GPU-aa11", "GPU-aa22"]
    assert leases.take(UUIDS, 2, "run-2") is None
    assert leases.holders(UUIDS) == {"GPU-aa11": "run-1", "GPU-aa22": "run-1"}
    second = leases.take(UUIDS, 1, "run-2")
    assert second is not None, "what could not be had whole was given back"
    assert second[0].uuid == "GPU-bb33"
    for lease in (*first, *second):
        lease.release()
    assert leases.holders(UUIDS) == {}


def test_a_disk_that_refuses_leaves_no_gpu_leased(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            leases.take(UUIDS, 1, "run-1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert leases.holders(UUIDS) == {}
    (tmp_path / "GPU-bb33.lock").unlink()
    (tmp_path / "GPU-bb33.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        leases.take(UUIDS, 3, "run-1")
    assert leases.holders(UUIDS[:2]) == {}, "those before it were given back"


def test_a_lease_lives_as_long_as_whoever_inherited_it(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    taken = leases.take(UUIDS[:1], 1, "run-1")
    assert taken is not None
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=fds(taken)
    )
    taken[0].release()
    assert leases.holders(UUIDS) == {"GPU-aa11": "run-1"}
    child.kill()
    child.communicate()
    assert leases.holders(UUIDS) == {}


def test_who_only_asks_does_not_keep_a_gpu_from_whoever_takes_it(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    leases.holders(UUIDS)
    asking = os.open(tmp_path / "GPU-aa11.lock", os.O_RDWR)
    fcntl.flock(asking, fcntl.LOCK_SH)
    assert leases.holders(UUIDS) == {}, "nor do two who ask meet"
    done = threading.Timer(GLANCE_S / 5, os.close, [asking])
    done.start()
    taken = leases.take(UUIDS, len(UUIDS), "run-1")
    done.join()
    assert taken is not None
    for lease in taken:
        lease.release()


def test_a_gpu_that_is_leased_is_not_waited_for(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    taken = leases.take(UUIDS, len(UUIDS), "run-1")
    assert taken is not None
    begun = time.monotonic()
    assert leases.take(UUIDS, 1, "run-2") is None
    assert time.monotonic() - begun < GLANCE_S
    for lease in taken:
        lease.release()


@dataclass
class ScriptedDriver:
    """A driver of GPUs that this machine need not have: the calls of pynvml that are used, answered from a script."""

    used: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UUIDS, 1 << 20))
    gone: set[str] = field(default_factory=set)
    events: dict[object, str] = field(default_factory=dict)
    xids: list[tuple[str, int]] = field(default_factory=list)
    num_open: int = 0
    NVMLError = pynvml.NVMLError
    nvmlEventTypeXidCriticalError = pynvml.nvmlEventTypeXidCriticalError

    def nvmlInit(self) -> None:
        self.num_open += 1

    def nvmlShutdown(self) -> None:
        self.num_open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.used)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return list(self.used)[index]

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        self._check_answers(handle)
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "a GPU"

    def _check_answers(self, handle: str) -> None:
        if handle in self.gone:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        self._check_answers(handle)
        return SimpleNamespace(total=1 << 30, used=self.used[handle])

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlEventSetFree(self, events: object) -> None: ...

    def nvmlDeviceRegisterEvents(self, handle: str, kinds: int, events: object) -> None:
        if handle == "GPU-bb33":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.events[events] = handle

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:
        handle = self.events.get(events)
        for one in self.xids:
            if one[0] == handle:
                self.xids.remove(one)
                return SimpleNamespace(eventData=one[1])
        silence = pynvml.NVML_ERROR_UNKNOWN if handle in self.gone else pynvml.NVML_ERROR_TIMEOUT
        raise pynvml.NVMLError(silence)


@pytest.fixture
def driver() -> Iterator[ScriptedDriver]:
    scripted = ScriptedDriver()
    yield scripted
    assert scripted.num_open <= 1


def test_only_the_gpus_that_are_allowed(driver: ScriptedDriver) -> None:
    assert [gpu.uuid for gpu in NvmlInventory(driver, None).gpus()] == list(UUIDS)
    driver.num_open = 0
    assert [gpu.uuid for gpu in NvmlInventory(driver, ["2", "GPU-aa1"]).gpus()] == ["GPU-bb33", "GPU-aa11"]
    driver.num_open = 0
    for wrong in ("7", "GPU-aa", "x"):
        with pytest.raises(ConfigError, match="GPU-bb33") as caught:
            NvmlInventory(driver, [wrong])
        assert wrong in str(caught.value)
        driver.num_open = 0


def test_memory_in_use(driver: ScriptedDriver) -> None:
    inventory = NvmlInventory(driver, None)
    driver.used["GPU-aa22"] = 5
    assert {gpu.uuid: gpu.memory_used for gpu in inventory.gpus()}["GPU-aa22"] == 5
    inventory.close()
    assert driver.num_open == 0


def test_a_gpu_that_fell_off_the_bus_is_told_with_its_xid(driver: ScriptedDriver) -> None:
    inventory = NvmlInventory(driver, None)
    driver.xids = [("GPU-aa11", 13), ("GPU-aa22", 79)]
    assert inventory.lost(["GPU-aa11", "GPU-bb33"]) is None, "an illegal access of a program is no fault of the GPU"
    driver.gone = {"GPU-aa22"}
    for _ in range(2):
        assert inventory.lost(["GPU-aa11", "GPU-aa22"]) == "GPU GPU-aa22: Xid 79: GPU has fallen off the bus"


def test_a_gpu_that_does_not_answer_is_lost(driver: ScriptedDriver) -> None:
    inventory = NvmlInventory(driver, None)
    driver.gone = {"GPU-bb33"}
    assert [gpu.uuid for gpu in inventory.gpus()] == ["GPU-aa11", "GPU-aa22"]
    reason = inventory.lost(["GPU-bb33"])
    assert reason is not None
    assert "GPU-bb33" in reason
    assert "lost" in reason.lower()


def test_a_gpu_that_answers_again_can_be_used(driver: ScriptedDriver) -> None:
    inventory = NvmlInventory(driver, None)
    driver.gone = {"GPU-aa11", "GPU-aa22"}
    driver.xids = [("GPU-aa22", 79)]
    assert inventory.lost(["GPU-aa11"]) is not None
    driver.gone = set()
    assert inventory.lost(["GPU-aa11"]) is None
    assert inventory.lost(["GPU-aa22"]) is not None, "it may answer, and it must be reset"


def test_the_other_gpus_serve_where_one_does_not_answer_from_the_start(driver: ScriptedDriver) -> None:
    driver.gone = {"GPU-aa11"}
    assert [gpu.uuid for gpu in NvmlInventory(driver, None).gpus()] == ["GPU-aa22", "GPU-bb33"]
    driver.num_open = 0
    assert [gpu.uuid for gpu in NvmlInventory(driver, ["1"]).gpus()] == ["GPU-aa22"], "indices stay as they are"
    driver.num_open = 0
    with pytest.raises(ConfigError, match=r"0 \(does not answer\)"):
        NvmlInventory(driver, ["0"])


@pytest.mark.parametrize("allowed", ["", "-1", "none"])
def test_no_gpus_may_be_used(allowed: str) -> None:
    inventory = open_inventory(allowed)
    assert isinstance(inventory, NoGpus)
    assert inventory.gpus() == []
    assert inventory.lost(["GPU-aa11"]) is None

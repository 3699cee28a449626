# ruff: noqa: N801, N802, N816, N818 -- the driver's names
"""A driver of GPUs that this machine need not have, for programs that are given this folder as PYTHONPATH: what it
answers stands in the file that GPU_SCRIPT names, as JSON: `used` (UUID → bytes), `gone`, `xids`, `hangs`."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

nvmlEventTypeXidCriticalError = 8
_told: set[str] = set()


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


def _script() -> dict[str, Any]:
    script = dict(json.loads(Path(os.environ["GPU_SCRIPT"]).read_text()))
    while script.get("hangs"):
        time.sleep(1)
    return script


def nvmlInit() -> None:
    if "used" not in _script():
        raise NVMLError("the driver is of another version")


def nvmlDeviceGetCount() -> int:
    return len(_script()["used"])


def nvmlDeviceGetHandleByIndex(index: int) -> str:
    return list(_script()["used"])[index]


def nvmlDeviceGetUUID(handle: str) -> str:
    return handle


def nvmlDeviceGetName(handle: str) -> str:
    return "a GPU"


def nvmlDeviceGetMemoryInfo(handle: str) -> Any:
    if handle in _script().get("gone", []):
        raise NVMLError("GPU is lost")
    return SimpleNamespace(total=1 << 34, used=_script()["used"][handle])


def nvmlEventSetCreate() -> list[str]:
    return []


def nvmlDeviceRegisterEvents(handle: str, kinds: int, events: list[str]) -> None:
    events.append(handle)


def nvmlEventSetWait_v2(events: list[str], timeout_ms: int) -> Any:
    for handle, xid in _script().get("xids", {}).items():
        if handle in events and handle not in _told:
            _told.add(handle)
            return SimpleNamespace(eventData=xid)
    raise NVMLError("Timeout")

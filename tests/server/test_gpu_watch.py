"""GPUs through a process of their own: what it says, and what follows when it cannot."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.runs import wait_for

from server.gpus.watch import Watch
from server.runs.keeping.devices import Devices
from xoron_core.contract.process import ProcessIdentity

DRIVER = Path(__file__).parents[1] / "support" / "driver"
UUID = "GPU-aa11"
GIB = 2**30


class Script:
    """What the driver of a watch answers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, **answers: Any) -> None:
        """From now on."""
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(answers))
        draft.replace(self.path)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A GPU with nothing on it."""
    script = Script(tmp_path / "gpus.json")
    monkeypatch.setenv("GPU_SCRIPT", str(script.path))
    monkeypatch.setenv("PYTHONPATH", str(DRIVER))
    script.say(used={UUID: 0})
    return script


@contextmanager
def watching(answer_s: float = 20.0) -> Iterator[Watch]:
    """A watch that leaves no process behind."""
    with closing(Watch([UUID], answer_s)) as watch:
        yield watch
    assert not psutil.pid_exists(watch.pid)


def test_it_sees_memory_and_xids_of_its_gpus(script: Script) -> None:
    script.say(used={UUID: 5, "GPU-bb22": 7})
    with watching() as watch:
        assert [(gpu.uuid, gpu.memory_used) for gpu in watch.gpus()] == [(UUID, 5)]
        assert watch.lost([UUID]) is None
        script.say(used={UUID: 5}, xids={UUID: 79})
        assert watch.lost([UUID]) == f"GPU {UUID}: Xid 79: GPU has fallen off the bus"


def test_a_driver_that_fails_is_told_in_its_own_words(script: Script) -> None:
    script.say()
    with watching() as watch:
        assert watch.gpus() == []
        assert watch.lost([UUID]) == f"the GPUs {UUID} cannot be used: the driver is of another version"


def test_a_driver_that_hangs_does_not_hold_up_whoever_asks(script: Script) -> None:
    with watching(answer_s=5.0) as watch:
        watch._answer_s = 0.2
        script.say(hangs=True)
        assert watch.lost([UUID]) == f"the GPUs {UUID} cannot be used: the driver has not answered for 0.2 s"
        script.say(used={UUID: 0})
        assert "has not answered" in str(watch.lost([UUID])), "what it says later is an answer to an older question"


def test_a_watch_that_was_killed_is_told(script: Script) -> None:
    with watching() as watch:
        os.kill(watch.pid, signal.SIGKILL)
        assert "its watch was killed" in str(watch.lost([UUID]))
        assert watch.gpus() == []


def test_a_watch_ends_with_whoever_asks(script: Script) -> None:
    program = "import sys; from server.gpus.watch import Watch; print(Watch(sys.argv[1:]).pid, flush=True); input()"
    command = [sys.executable, "-c", program, UUID]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        watch = ProcessIdentity.of(int(asking.stdout.readline()))
        assert watch is not None
        assert watch.is_alive()
        asking.kill()
    wait_for(lambda: not watch.is_alive())


def test_memory_that_a_run_leaves_on_a_gpu_is_waited_for_and_then_told(script: Script) -> None:
    script.say(used={UUID: GIB})
    with closing(Devices([UUID])) as devices:
        assert devices.wait_until_free() is None, "what was there before is nobody's of the run"
        script.say(used={UUID: 3 * GIB})
        held = devices.wait_until_free(timeout_s=0.2)
        assert held is not None
        assert f"2.00 GiB on {UUID}" in held

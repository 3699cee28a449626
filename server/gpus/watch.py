"""GPUs seen through a process of its own: the driver's library would make a keeper half as large again, and a GPU that
is gone may hold up whoever asks for it.

`python -m server.gpus.watch UUIDS` answers every line that it reads with one of JSON, and ends with its input.
"""

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from server.gpus.inventory import GpuInfo, open_inventory

ANSWER_S = 20.0
"""A driver that takes longer is one that does not answer."""
END_S = 1.0


class Watch:
    """The GPUs `uuids` as the watching process sees them; what it cannot say, they cannot be used for."""

    def __init__(self, uuids: Sequence[str], answer_s: float = ANSWER_S) -> None:
        self._uuids = tuple(uuids)
        self._answer_s = answer_s
        self._failure: str | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, ",".join(uuids)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._look()  # Xids are told to whoever registered before they happened

    @property
    def pid(self) -> int:
        """Of the process that watches."""
        return self._process.pid

    def gpus(self) -> list[GpuInfo]:
        """Those that answer, in the order of their indices."""
        return [GpuInfo(**gpu) for gpu in self._look().get("gpus", ())]

    def lost(self, uuids: Sequence[str]) -> str | None:
        """Why one of these cannot be used any more; None where all can."""
        lost = self._look().get("lost", {})
        if self._failure is not None:
            return f"the GPUs {', '.join(uuids)} cannot be used: {self._failure}"
        return "; ".join(lost[uuid] for uuid in uuids if uuid in lost) or None

    def close(self) -> None:
        """End the process; one that hangs in the driver is killed, and then it is the kernel's."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._process.stdout.close()

    def _look(self) -> dict[str, Any]:
        """What the process answers; nothing once it has failed to."""
        if self._failure is not None:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it said before it ended can be read
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], self._answer_s)[0]:
            self._failure = f"the driver has not answered for {self._answer_s:g} s"
            return {}
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or b'{"failure": "its watch was killed"}')
        self._failure = answer.get("failure")
        return answer


def main(uuids: str) -> None:
    """Answer until nobody asks any more."""
    try:
        inventory = open_inventory(uuids)
    except Exception as error:  # noqa: BLE001 -- boundary: a driver's library fails in ways of its own; it is told
        _say({"failure": str(error)})
        return
    for _ in sys.stdin:
        lost = {uuid: reason for uuid in uuids.split(",") if (reason := inventory.lost([uuid])) is not None}
        _say({"gpus": [asdict(gpu) for gpu in inventory.gpus()], "lost": lost})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])

"""The GPUs that a keeper has leased: what they held before it began, whether they still answer."""

import time
from collections.abc import Sequence

from server.gpus.watch import Watch

TOLERANCE_BYTES = 128 * 2**20
"""Less than any process holds that uses a GPU; drivers keep a little for themselves."""
FREE_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.1


class Devices:
    """Without GPUs nothing is asked and nothing started."""

    def __init__(self, uuids: Sequence[str]) -> None:
        self.uuids = tuple(uuids)
        self._watch = Watch(uuids) if uuids else None
        self._before = self._used()

    @property
    def pids(self) -> frozenset[int]:
        """Processes that are here for the devices and not for the run."""
        return frozenset() if self._watch is None else frozenset({self._watch.pid})

    def lost(self) -> str | None:
        """Why one of them cannot be used any more; None where all can."""
        return None if self._watch is None else self._watch.lost(self.uuids)

    def wait_until_free(self, timeout_s: float = FREE_WITHIN_S) -> str | None:
        """Wait until they hold no more than before; returned is what is left after `timeout_s`, None: nothing."""
        deadline = time.monotonic() + timeout_s
        while True:
            held = still_held(self._before, self._used())
            if not held:
                return None
            if time.monotonic() > deadline:
                amounts = ", ".join(f"{count / 2**30:.2f} GiB on {uuid}" for uuid, count in held.items())
                return (
                    f"GPU memory is not free {timeout_s:g} s after the last process of the run: {amounts} more than "
                    "before it began; `nvidia-smi` says who holds it"
                )
            time.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        """Let go of the driver."""
        if self._watch is not None:
            self._watch.close()

    def _used(self) -> dict[str, int]:
        return {} if self._watch is None else {gpu.uuid: gpu.memory_used for gpu in self._watch.gpus()}


def still_held(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Bytes that are in use beyond what was, by GPU; one that does not answer any more holds nothing."""
    more = {uuid: count - before[uuid] for uuid, count in now.items() if uuid in before}
    return {uuid: count for uuid, count in more.items() if count > TOLERANCE_BYTES}

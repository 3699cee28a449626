"""The GPUs that a keeper has leased: what they held before it began, whether they still answer."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.gpus.inventory import Inventory

TOLERANCE_BYTES = 128 * 2**20
"""Less than any process holds that uses a GPU; drivers keep a little for themselves."""
FREE_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.1


class Devices:
    """Without GPUs nothing is asked and nothing imported."""

    def __init__(self, uuids: Sequence[str]) -> None:
        self.uuids = tuple(uuids)
        self._inventory: Inventory | None = None
        self._refusal: str | None = None
        if uuids:
            from server.gpus.inventory import open_inventory  # megabytes that a run without GPUs has no use for

            try:
                self._inventory = open_inventory(",".join(uuids))
            except Exception as error:  # noqa: BLE001 -- boundary: a driver's library fails in ways of its own
                self._refusal = f"the GPUs {', '.join(uuids)} cannot be used: {error}"
        self._before = self._used()

    def lost(self) -> str | None:
        """Why one of them cannot be used any more; None where all can."""
        return self._refusal if self._inventory is None else self._inventory.lost(self.uuids)

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
        if self._inventory is not None:
            self._inventory.close()

    def _used(self) -> dict[str, int]:
        if self._inventory is None:
            return {}
        return {gpu.uuid: gpu.memory_used for gpu in self._inventory.gpus() if gpu.uuid in self.uuids}


def still_held(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Bytes that are in use beyond what was, by GPU; one that does not answer any more holds nothing."""
    more = {uuid: count - before[uuid] for uuid, count in now.items() if uuid in before}
    return {uuid: count for uuid, count in more.items() if count > TOLERANCE_BYTES}

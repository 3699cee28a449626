"""The GPUs of a run without a server: taken by lease, so that no other run of this machine has them, too."""

from typing import TYPE_CHECKING

from xoron_core.contract.errors import XoronError

if TYPE_CHECKING:
    from server.gpus.inventory import Inventory
    from server.gpus.leases import Lease, Leases
    from xoron_core.contract.config.training import ResourcesConfig


class GpusTakenError(XoronError):
    """There are not as many GPUs as a run asks for, or others have them."""


def take_gpus(resources: "ResourcesConfig", inventory: "Inventory", leases: "Leases", holder: str) -> "list[Lease]":
    """The leases that a run needs on this host; none for one that trains on the CPU.

    Raises: GpusTakenError naming who has them.
    """
    present = [gpu.uuid for gpu in inventory.gpus()]
    count = resources.num_gpus(host_has_gpus=bool(present))
    usable = [uuid for uuid in present if inventory.lost([uuid]) is None]
    if count > len(usable):
        lost = inventory.lost(present)
        raise GpusTakenError(
            f"{_gpus(count)} wanted, and {len(usable)} can be used here"
            + (f" ({lost})" if lost else "")
            + "; set resources.device=cpu, lower resources.processes, or look at XORON_GPUS and CUDA_VISIBLE_DEVICES"
        )
    taken = leases.take(usable, count, holder)
    if taken is None:
        holders = leases.holders(usable)
        names = ", ".join(f"{uuid} by {who or 'a program that did not say'}" for uuid, who in holders.items())
        raise GpusTakenError(
            f"{_gpus(count)} wanted, and {len(usable) - len(holders)} of {len(usable)} free (leased: {names}); "
            "wait for those runs or stop them, have `xoron runs start` wait in the queue, "
            "or set resources.device=cpu"
        )
    return taken


def _gpus(count: int) -> str:
    return "1 GPU is" if count == 1 else f"{count} GPUs are"

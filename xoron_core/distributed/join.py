"""From a launch to ranks."""

from typing import Literal

from xoron_core.distributed.launch import Launch
from xoron_core.distributed.ranks import Alone, Ranks


def join(launch: Launch, device: Literal["auto", "cpu", "cuda"]) -> Ranks:
    """The ranks of this launch, once all of them are there.

    `device`: what is trained on; gradients go by NCCL between GPUs and by gloo between CPUs.
    Raises: PeerLostError when the others cannot be reached.
    """
    if launch.world_size == 1:
        return Alone()
    from xoron_core.distributed.group import ProcessGroup  # torch: seconds, and only where there are others

    return ProcessGroup(launch, device)

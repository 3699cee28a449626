"""What a launcher such as torchrun tells each process that it starts."""

import ctypes
import signal
from collections.abc import Mapping
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Launch:
    """A process's place among those that were started together; alone it is rank 0 of one."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Launch":
        """The place that `RANK`, `LOCAL_RANK` and `WORLD_SIZE` name."""
        return cls(
            int(environ.get("RANK", "0")), int(environ.get("LOCAL_RANK", "0")), int(environ.get("WORLD_SIZE", "1"))
        )

    @property
    def has_launcher(self) -> bool:
        """Whether a launcher stands between this process and the keeper, which then sees no exit status of it."""
        return self.world_size > 1


def end_with_parent() -> None:
    """Have the kernel send this process SIGKILL when the one that started it is gone (prctl(2)).

    A launcher that was told to end sends SIGTERM first and waits for the checkpoint. One that is gone without that was
    killed: with SIGTERM the ranks would end as if somebody had asked for it, and nobody would start them again.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

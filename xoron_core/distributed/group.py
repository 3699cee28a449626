"""Ranks that are processes of one host, by torch.distributed.

Small things go through a gloo group of their own: its connections break when a process dies, whatever the GPUs do.
It has no timeout that matters, because rank 0 evaluates, samples and saves while the others wait.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from xoron_core.distributed.launch import Launch
from xoron_core.distributed.ranks import PeerLostError, Ranks, Terms

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = timedelta(days=30)
BUCKET_BYTES = 32 * 2**20
_NO_MEMORY = re.compile(r"Cuda failure (\d+ )?'out of memory'|Failed to CUDA (calloc|malloc)")
"""How NCCL says that it got none on this process's own GPU."""


class ProcessGroup(Ranks):
    """The ranks that torchrun started. Construction waits for all of them.

    Raises: PeerLostError when they cannot be reached.
    """

    def __init__(self, launch: Launch, device: str) -> None:
        self.rank, self.local_rank, self.world_size = launch.rank, launch.local_rank, launch.world_size
        uses_gpu = device != "cpu" and torch.cuda.is_available()
        self._device = torch.device("cuda", self.local_rank) if uses_gpu else torch.device("cpu")
        if uses_gpu:
            torch.cuda.set_device(self._device)
        with between_ranks():
            if uses_gpu:
                dist.init_process_group("nccl", device_id=self._device)
            else:
                dist.init_process_group("gloo", timeout=PATIENCE)
            objects = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(objects, dist.ProcessGroup), "every rank is a member"
        self._objects = objects

    def largest(self, number: int) -> int:
        """By one reduction of a single number: cheap enough between micro-batches."""
        held = torch.tensor(number)
        with between_ranks():
            dist.all_reduce(held, dist.ReduceOp.MAX, group=self._objects)
        return int(held)

    def gather(self, item: T) -> list[T]:
        """Every rank's item, pickled on the way: these processes are of one program."""
        found: list[T | None] = [None] * self.world_size
        with between_ranks():
            dist.all_gather_object(found, item, group=self._objects)
        return found  # type: ignore[return-value]  # filled by now

    def sum_terms(self, terms: Sequence[Terms]) -> Sequence[Terms]:
        """By one copy to the host, added in the order of ranks."""
        scalars = [part for named in terms for pair in named.values() for part in pair]
        numbers = iter(torch.stack([part.detach().double() for part in scalars]).tolist() if scalars else [])
        plain = [{name: (next(numbers), next(numbers)) for name in named} for named in terms]
        totals: list[dict[str, tuple[float, float]]] = [{} for _ in terms]
        for shares in self.gather(plain):
            for total, share in zip(totals, shares, strict=True):
                for name, (value, count) in share.items():
                    before = total.get(name, (0.0, 0.0))
                    total[name] = (before[0] + value, before[1] + count)
        flat = [number for total in totals for pair in total.values() for number in pair]
        summed = iter(torch.tensor(flat, dtype=torch.float64, device=self._device))
        return [{name: (next(summed), next(summed)) for name in total} for total in totals]

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """In flat buckets: few large messages."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().flatten() for tensor in bucket])
            with between_ranks():
                dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, summed in zip(bucket, parts, strict=True):
                tensor.detach().copy_(summed.view_as(tensor))

    def sum_gradients(self, parameters: Sequence[Parameter]) -> None:
        """After finding out which parameters have a gradient somewhere; elsewhere that is zero."""
        present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        with between_ranks():
            dist.all_reduce(present, dist.ReduceOp.MAX, group=self._objects)
        gradients: list[Tensor] = []
        for parameter, is_present in zip(parameters, present.tolist(), strict=True):
            if is_present:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)
                gradients.append(parameter.grad)
        self.sum_tensors(gradients)

    def close(self) -> None:
        """Leave the groups, after everybody has come here; whoever was faster may be gone already."""
        try:
            with between_ranks():
                dist.barrier(group=self._objects)
        except PeerLostError as error:
            log.info("%s, after the last that ranks had to tell each other", error)
        dist.destroy_process_group()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors of one type, of at most BUCKET_BYTES where they are not larger by themselves."""
    bucket: list[Tensor] = []
    num_bytes = 0
    for tensor in tensors:
        if bucket and (num_bytes + tensor.nbytes > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(tensor)
        num_bytes += tensor.nbytes
    if bucket:
        yield bucket


@contextmanager
def between_ranks() -> Iterator[None]:
    """What goes wrong between processes, and nothing else, goes on inside; trouble of this process's own GPU stays what
    it is, or nobody would know why all of them end."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except RuntimeError as error:  # gloo's own, and the base of those of NCCL, the store and the network
        if (told := _NO_MEMORY.search(str(error))) is not None:
            raise torch.OutOfMemoryError(f"no memory is left for NCCL: {told[0]}") from error
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise PeerLostError(f"another rank went away: {first_line}") from error

"""What the data set gives, as batches on the device, with what all ranks together have in them."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.records import Drawn
from xoron_core.data.runner import Here
from xoron_core.data.workers import WorkerPool, default_num_workers
from xoron_core.modalities.base import Batch, Collator

log = logging.getLogger(__name__)

WORKER_MODULES = ("xoron_core.modalities.registry",)
"""What takes workers seconds to load."""


@dataclass(frozen=True)
class _Arriving:
    """A micro-batch whose copy to the GPU is under way, or the error that came in its place."""

    drawn: Drawn[Batch] | None = None
    copied: torch.cuda.Event | None = None
    error: Exception | None = None


class Batches:
    """Endless iterator over the micro-batches of a data set, collated, on the device; `part` is a batch always.

    With a GPU the next one is fetched, and its copy begun, before one is given out, so that it arrives while that is
    computed on. `on_wait` is called every now and
    then while something is waited for, `on_alert` with what a person should know of.
    """

    def __init__(
        self,
        dataset: TrueStreamingDataset,
        collate_fn: Collator,
        device: torch.device,
        num_ranks_here: int,
        on_wait: Callable[[], None],
        on_alert: Callable[[str], None],
    ) -> None:
        self.device = device
        num_workers = dataset.config.num_workers
        if num_workers is None:
            num_workers = default_num_workers(num_ranks_here) if device.type == "cuda" else 0
        self.runner: Here[Batch] | WorkerPool[Batch] = (
            WorkerPool(
                num_workers,
                dataset.preparation,
                collate_fn,
                ahead=dataset.config.prefetch,
                timeout_s=dataset.config.sample_timeout_s,
                modules=WORKER_MODULES,
                allocate=self._allocate,
                on_wait=on_wait,
                on_death=on_alert,
            )
            if num_workers
            else Here(dataset.preparation, collate_fn, on_wait)
        )
        self._drawn = dataset.follow(self.runner, _summary)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._arriving: _Arriving | None = None

    def __iter__(self) -> Iterator[Drawn[Batch]]:
        return self

    def __next__(self) -> Drawn[Batch]:
        """The next micro-batch. Raises: DataError, RanksDifferError, WorkerError."""
        if self._copies is None:
            return self._fetch()
        arrived = self._arriving or self._begin()
        if arrived.error is not None:
            raise arrived.error
        assert arrived.drawn is not None
        assert arrived.copied is not None
        self._arriving = self._begin()
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(arrived.copied)
        assert arrived.drawn.part is not None
        for tensor in arrived.drawn.part.tensors.values():
            tensor.record_stream(stream)  # its memory is not to be used anew before this stream is done with it
        return arrived.drawn

    def close(self) -> None:
        """End the workers."""
        self.runner.close()

    def _begin(self) -> _Arriving:
        """Fetch one and begin its copy; an error waits for its turn, since training may be over before."""
        assert self._copies is not None
        try:
            with torch.cuda.stream(self._copies):
                return _Arriving(self._fetch(), self._copies.record_event())
        except Exception as error:  # boundary: it is raised when what failed is asked for
            log.debug("the next micro-batch cannot be had", exc_info=True)
            return _Arriving(error=error)

    def _fetch(self) -> Drawn[Batch]:
        drawn = next(self._drawn)
        return replace(drawn, part=_whole(drawn).to(self.device))

    def _allocate(self, size: int) -> Tensor:
        if self.device.type != "cuda":
            return torch.empty(size, dtype=torch.uint8)
        with torch.cuda.device(self.device):  # a thread has none of its own, and would wake the first GPU
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def _summary(batch: Batch) -> tuple[dict[str, float], int]:
    return batch.counts, batch.num_tokens


def _whole(drawn: Drawn[Batch]) -> Batch:
    """This rank's part, empty where it has none, with the counts of all."""
    counts: Counter[str] = Counter()
    num_tokens = 0
    for own_counts, own_tokens in drawn.summaries:
        counts.update(own_counts)
        num_tokens += own_tokens
    batch = drawn.part or Batch(drawn.modality, {}, {}, 0, 0, ())
    return replace(batch, counts=dict(counts), num_tokens=num_tokens, sample_ids=drawn.sample_ids)

"""How many micro-batches an epoch has, told from documents spread over each source."""

from collections.abc import Hashable, Sequence
from math import ceil

import numpy as np

from xoron_core.contract.errors import ConfigError, DataError, SourceLostError
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.packing import arrange
from xoron_core.data.plan import Feed, quotas
from xoron_core.data.records import Ticket

Probe = tuple[int, Hashable] | None
"""The length and the shape of a sample; None: it cannot be read, and takes no room."""


def estimate_epoch(dataset: TrueStreamingDataset, num_probes: int = 256) -> int:
    """About how many micro-batches of each process an epoch has; samples of `num_probes` rows of each source (an eighth
    of that of media, which take longer) are arranged as those of an epoch will be.

    Raises: ConfigError when a source does not tell how many rows it has, so that rows spread over it cannot be read.
    """
    return sum(_micro_batches(dataset, modality, num_probes) for modality in dataset.lanes)


def _micro_batches(dataset: TrueStreamingDataset, modality: str, num_probes: int) -> int:
    layout, feeds = dataset.lanes[modality].layout, dataset.feeds[modality]
    draws = [_num_draws(feed) for feed in feeds]
    num_draws = ceil(sum(draws) / layout.num_ranks)
    if num_draws == 0 or (layout.row_length is None and layout.batch_tokens is None and layout.rows == 1):
        return num_draws
    num_probes = num_probes if layout.row_length is not None else num_probes // 8
    probes = [_probe(dataset, modality, feed, num_probes) for feed in feeds]
    window = min(layout.window, num_draws)
    num_windows = min(ceil(num_draws / window), ceil(sum(map(len, probes)) / window))
    samples = [
        probe
        for found, share in zip(probes, quotas(draws, min(num_draws, window * num_windows)), strict=True)
        for probe in _spread(found, share)
    ]
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(samples))
    groups = 0
    for first in range(0, len(samples), window):
        readable = [probe for at in order[first : first + window] if (probe := samples[at]) is not None]
        groups += len(arrange([length for length, _ in readable], [shape for _, shape in readable], layout))
    return max(1, ceil(groups * num_draws / len(samples)))


def _num_draws(feed: Feed) -> int:
    if feed.quota is None:
        raise _unknown(feed)
    return feed.quota


def _probe(dataset: TrueStreamingDataset, modality: str, feed: Feed, num_probes: int) -> list[Probe]:
    """Samples of rows spread over a source."""
    if feed.num_rows is None:
        raise _unknown(feed)
    found: list[Probe] = []
    for index in sorted({int(at) for at in np.linspace(0, feed.num_rows - 1, num_probes)}):
        dataset.on_progress()
        try:
            sample = dataset.preparation.sample(modality, Ticket(feed.number, index, 0))
        except (DataError, SourceLostError):  # counted when the plan draws it
            found.append(None)
        else:
            found.append((sample.length, sample.shape))
    return found


def _spread(found: Sequence[Probe], count: int) -> list[Probe]:
    """So many of what was found, from all over it; each as often as any other, or once more."""
    return [found[(2 * at + 1) * len(found) // (2 * count)] for at in range(count)]


def _unknown(feed: Feed) -> ConfigError:
    reason = f"source {feed.name!r} does not tell how many rows it has; say how long to train"
    return ConfigError.of("training.max_steps", reason)

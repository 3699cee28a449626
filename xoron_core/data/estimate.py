"""How many micro-batches an epoch has, told from documents spread over each source."""

from math import ceil

import numpy as np

from xoron_core.contract.errors import ConfigError, DataError, SourceLostError
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.packing import arrange
from xoron_core.data.plan import Feed
from xoron_core.data.records import Ticket


def estimate_epoch(dataset: TrueStreamingDataset, num_probes: int = 256) -> int:
    """About how many micro-batches of each process an epoch has; packing is tried on a window of documents.

    Raises: ConfigError when a source does not tell how many rows it has.
    """
    return sum(_micro_batches(dataset, modality, num_probes) for modality in dataset.lanes)


def _micro_batches(dataset: TrueStreamingDataset, modality: str, num_probes: int) -> int:
    layout, feeds = dataset.lanes[modality].layout, dataset.feeds[modality]
    draws = [_num_draws(feed) for feed in feeds]
    num_draws = sum(draws) / layout.num_ranks
    if layout.row_length is None and layout.batch_tokens is None:
        return ceil(num_draws / layout.rows)
    share = min(1.0, layout.window / num_draws)
    probes = [_probe(dataset, modality, feed, num_probes) for feed in feeds]
    lengths = [at for found, count in zip(probes, draws, strict=True) for at in np.resize(found, ceil(count * share))]
    groups = arrange([int(length) for length in lengths], [()] * len(lengths), layout)
    return max(1, round(len(groups) * num_draws / len(lengths)))


def _num_draws(feed: Feed) -> int:
    if feed.quota is None:
        raise ConfigError.of(
            "training.max_steps", f"source {feed.name!r} does not tell how many rows it has; say how long to train"
        )
    return feed.quota


def _probe(dataset: TrueStreamingDataset, modality: str, feed: Feed, num_probes: int) -> list[int]:
    """Lengths of rows spread over a source; 0 for those that cannot be read."""
    assert feed.num_rows is not None
    lengths = []
    for index in sorted({int(at) for at in np.linspace(0, feed.num_rows - 1, num_probes)}):
        dataset.on_progress()
        try:
            lengths.append(dataset.preparation.sample(modality, Ticket(feed.number, index, 0)).length)
        except (DataError, SourceLostError):  # counted when the plan draws it
            lengths.append(0)
    return lengths

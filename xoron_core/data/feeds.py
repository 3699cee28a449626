"""From sources to what the plan draws from, and how much of each an epoch may have."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.data.plan import Feed, IndexedFeed, quotas
from xoron_core.data.records import Preparer
from xoron_core.data.shuffle import RowOrder
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source, Stream
from xoron_core.data.stream_feed import StreamFeed, StreamOptions


@dataclass(frozen=True)
class _Found:
    """A source of a modality, its rows (a stream's are unknown), and what it would give without limits."""

    config: SourceConfig
    modality: str
    num_rows: int | None
    blocks: Sequence[int]
    stream: Stream | None

    def draws(self, limit: int | None) -> int | None:
        """Of an epoch, under a limit of its own; None: as many as there are, nobody knows."""
        if self.num_rows is None:
            return limit
        draws = self.num_rows * self.config.sample_repeat
        return draws if limit is None else min(draws, limit)


def open_feeds(
    sources: Sequence[tuple[SourceConfig, str]],
    preparers: Mapping[str, Preparer],
    config: DataConfig,
    seed: int,
    cache: Path | None,
    on_progress: Callable[[str], None],
) -> dict[str, list[Feed]]:
    """The feeds of each modality. Raises: DataError or SourceLostError when a source cannot be opened."""
    found = [_find(source, modality, cache, on_progress) for source, modality in sources]
    shares = _shares(found, preparers, config)
    feeds: dict[str, list[Feed]] = {name: [] for name in preparers}
    for number, (source, share) in enumerate(zip(found, shares, strict=True)):
        feeds[source.modality].append(_feed(number, source, share, config, seed))
    return feeds


def _find(config: SourceConfig, modality: str, cache: Path | None, on_progress: Callable[[str], None]) -> _Found:
    opened = open_source(config, config.split, cache, on_progress)
    if isinstance(opened, Stream):
        return _Found(config, modality, None, (), opened)
    assert isinstance(opened, Source)
    with closing(opened):
        return _Found(config, modality, len(opened), opened.blocks, None)


def _shares(found: Sequence[_Found], preparers: Mapping[str, Preparer], config: DataConfig) -> list[int | None]:
    """Draws of an epoch by source, under the limits of each, of its modality and of all."""
    shares = [source.draws(config.max_per_dataset) for source in found]
    for name, preparer in preparers.items():
        own = [at for at, source in enumerate(found) if source.modality == name]
        for at, share in zip(own, _limited([shares[at] for at in own], preparer.max_per_epoch), strict=True):
            shares[at] = share
    return _limited(shares, config.max_per_epoch)


def _limited(draws: Sequence[int | None], limit: int | None) -> list[int | None]:
    """A stream counts as if it had as many as the limit."""
    if limit is None:
        return list(draws)
    return list(quotas([limit if count is None else count for count in draws], limit))


def _feed(number: int, found: _Found, share: int | None, config: DataConfig, seed: int) -> Feed:
    source = found.config
    if found.stream is not None:
        options = StreamOptions(config.stream_window, source.sample_repeat, share, config.max_read_retries)
        return StreamFeed(number, source.name, source.weight, found.stream, options, seed)
    assert found.num_rows is not None
    assert share is not None
    order = RowOrder(seed, source.name, found.num_rows, found.blocks, config.shuffle_window)
    return IndexedFeed(number, source.name, source.weight, order, share, seed)

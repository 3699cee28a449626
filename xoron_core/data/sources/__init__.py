"""Sources of rows: files of every common format, folders, tars, the hub."""

from collections.abc import Callable
from pathlib import Path

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import ConfigError, SourceLostError
from xoron_core.contract.sources import locate
from xoron_core.data.sources.base import Source, Stream
from xoron_core.data.sources.hub import open_hub
from xoron_core.data.sources.local import FileSource


def open_source(
    source: SourceConfig, split: str, cache: Path | None, on_progress: Callable[[str], None] = lambda _: None
) -> Source | Stream:
    """Open a split of a source, alike in every process.

    `cache`: the folder where the indices of files are kept, or None. `on_progress` is told how far they have been
    looked through, `poems: 1.2 of 3.4 GB`, at every piece.
    Raises: DataError when a file is not of its format, there is no row, or the hub has no such data set; ConfigError
    when the split or format cannot be; SourceLostError when the source cannot be reached.
    """
    try:
        location = locate(source, split)
    except ConfigError as error:
        if error.problems[0].field == "path":  # it was there when the run was checked
            raise SourceLostError(source.name, error.problems[0].message) from error
        raise
    if location.format == "hub":
        return open_hub(source, location)
    return FileSource(source.name, location, cache, on_progress)

"""Sources made by tests, opened as the trainer opens them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xoron_core.contract.config.data import SourceConfig
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source


def config_of(path: Path | str, **options: Any) -> SourceConfig:
    """A source that is called poems."""
    return SourceConfig(name="poems", category="document", path=str(path), eval_split=None, **options)


def opened(
    path: Path | str,
    split: str = "train",
    cache: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Source:
    """The rows of a file, pattern or folder."""
    source = open_source(config_of(path, **options), split, cache, on_progress)
    assert isinstance(source, Source)
    return source


def read_all(source: Source) -> list[dict[str, Any]]:
    """Every row, in order; the source is closed."""
    rows = [dict(source.read(index).fields) for index in range(len(source))]
    source.close()
    return rows

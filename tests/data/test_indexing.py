"""Indexes are built in the background: progress is told, trouble is raised, and whoever gives up need not wait."""

import threading
from pathlib import Path

import pytest

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import DataError
from xoron_core.data import indexing


class GivenUpError(Exception):
    """Somebody asked to end."""


def sources(folder: Path, *names: str) -> list[SourceConfig]:
    found = []
    for name in names:
        (folder / name).mkdir()
        (folder / name / "train.jsonl").write_text('{"text": "a"}\n' * 50, encoding="utf-8")
        found.append(SourceConfig(name=name, category="document", path=str(folder / name), eval_split=None))
    return found


def test_every_split_has_its_index_afterwards(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    indexing.index_sources(sources(tmp_path, "a", "b", "c"), cache, lambda: None, lambda _: None)
    assert len(list(cache.glob("*.json"))) == 3


def test_trouble_with_a_source_is_raised(tmp_path: Path) -> None:
    [source] = sources(tmp_path, "a")
    (tmp_path / "a" / "train.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="a: "):
        indexing.index_sources([source], tmp_path / "cache", lambda: None, lambda _: None)


def test_whoever_gives_up_does_not_wait_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that never ends: its index is left when nobody wants it."""
    ended = threading.Event()

    def open_endless(
        source: SourceConfig, split: str, cache: Path | None, tell: indexing.Callable[[str], None]
    ) -> object:
        try:
            while True:
                tell("1 of 2 GB")
        finally:
            ended.set()

    monkeypatch.setattr(indexing, "open_source", open_endless)
    told: list[str] = []

    def give_up() -> None:
        if told:
            raise GivenUpError

    with pytest.raises(GivenUpError):
        indexing.index_sources(sources(tmp_path, "a"), tmp_path / "cache", give_up, told.append)
    assert ended.wait(10)
    assert told == ["1 of 2 GB"]

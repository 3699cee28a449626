"""Data sets of the Hugging Face hub: row after row over the network, or downloaded and read by number."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import DataError, SourceLostError
from xoron_core.contract.parts import Part
from xoron_core.contract.sources import Location
from xoron_core.data.records import Record
from xoron_core.data.sources.base import Source, Stream
from xoron_core.data.sources.media import read_within
from xoron_core.data.sources.rows import MAX_ROW_BYTES, BadRowError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

NUM_TRIES = 2
"""Of `datasets`, where it would try for ten minutes; who asked tries again, too."""

NUM_READERS = 16
"""Media files of a window that are fetched at the same time."""


def open_hub(source: SourceConfig, location: Location) -> Source | Stream:
    """A split of a data set on the hub. Programs that come with data sets are never run.

    Raises: DataError when there is no such data set, configuration or split, or it cannot be used; SourceLostError when
    the hub cannot be reached.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = NUM_TRIES
    try:
        path = f"hf://datasets/{source.path}"  # a bare name could be a folder of this machine
        dataset = datasets.load_dataset(path, source.config, split=location.split, streaming=source.streaming)
    except (DatasetsError, FileNotFoundError, ValueError, RuntimeError) as error:
        reason = f"{source.path} cannot be had from the hub: {error}".rstrip(".")
        cure = "change path, config or the split; eval_split: null where there is none to evaluate on"
        raise DataError(source.name, None, f"{reason}; {cure}") from error
    except Exception as error:  # boundary: HTTP clients, fsspec and Arrow have errors of their own
        reason = _cannot_reach(error)
        if not Path(source.path).exists():
            reason += f"; nor is there anything called {source.path} on this machine"
        raise SourceLostError(source.name, reason) from error
    if source.streaming:
        return HubStream(source.name, dataset, location.rows, own_files(source.path))
    from huggingface_hub.constants import HF_HUB_CACHE

    roots = (Path(HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE))
    return HubTable(source.name, dataset, location.rows, roots)


class HubStream(Stream):
    """Rows of a streamed data set. Pictures, clips and sounds are `{bytes, path}`, with the bytes where the hub has
    them and `own` fits their path.

    Raises: DataError when the part of it cannot be told.
    """

    def __init__(self, name: str, dataset: "IterableDataset", rows: Part, own: re.Pattern[str]) -> None:
        self.name = name
        self._own = own
        self._dataset = _part_of(name, dataset.decode(enable=False), rows)  # the part would decode
        columns = (self._dataset.features or {}).items()
        self._media = {column: feature for column, feature in columns if _has_media(feature)}
        self._begin: dict[str, Any] = self._dataset.state_dict()
        self._state: dict[str, Any] = self._begin
        self._rows: Iterator[dict[str, Any]] | None = None
        self._readers = ThreadPoolExecutor(NUM_READERS, thread_name_prefix=f"media of {name}")

    def take(self, count: int) -> list[Mapping[str, Any]]:
        try:
            if self._rows is None:
                self._dataset.load_state_dict(self._state)
                self._rows = iter(self._dataset)
            rows: list[Mapping[str, Any]] = list(islice(self._rows, count))
            if self._media:
                rows = list(self._readers.map(lambda row: with_media(row, self._media, self._own), rows))
        except Exception as error:  # boundary: HTTP clients, fsspec, Arrow, all that reads somebody's files from afar
            self._rows = None  # a generator that raised is at its end
            raise SourceLostError(self.name, _cannot_reach(error)) from error
        self._state = self._dataset.state_dict()
        return rows

    def rewind(self) -> None:
        self.load_state_dict(self._begin)

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state
        self._rows = None

    def close(self) -> None:
        self._rows = None
        self._readers.shutdown()


class HubTable(Source):
    """Rows of a downloaded data set, by number; files that they name lie below `roots`.

    Raises: DataError when there is no row.
    """

    def __init__(self, name: str, dataset: "Dataset", rows: Part, roots: Sequence[Path]) -> None:
        self.name = name
        self._dataset = dataset.with_format("arrow")  # media as {bytes, path}
        self._rows = rows.of(len(dataset))
        self._roots = tuple(roots)
        if not self._rows:
            raise DataError(name, None, f"there is no row in {dataset.split}{rows}, of {len(dataset)}")

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Record:
        try:
            fields = self._dataset[self._rows[index]].to_pylist()[0]
        except OSError as error:
            raise SourceLostError(self.name, f"cannot read what was downloaded: {error}") from error
        return Record(self.name, index, fields, partial(self._read_media, index))

    def close(self) -> None:
        """Its files are mapped into memory until nobody has rows of it."""

    def _read_media(self, index: int, name: str) -> bytes:
        for root in self._roots:
            if Path(name).is_relative_to(root):
                try:
                    return read_within(root, name)
                except BadRowError as error:
                    raise DataError(self.name, index, error.reason, error.kind) from error
                except OSError as error:
                    raise SourceLostError(self.name, f"cannot read what was downloaded: {error}") from error
        return _no_file(self.name, index, name)


def _part_of(name: str, dataset: "IterableDataset", rows: Part) -> "IterableDataset":
    """Raises: DataError when the part needs the number of rows, which is not known."""
    bounds = rows.from_the_start
    if bounds is None:
        known = (dataset.info.splits or {}).get(str(dataset.split))
        if known is None or not known.num_examples:
            reason = f"the hub does not tell how many rows there are, which {rows} asks for; give numbers: [100:]"
            raise DataError(name, None, reason)
        part = rows.of(known.num_examples)
        bounds = part.start, part.stop
    start, stop = bounds
    if start:
        dataset = dataset.skip(start)
    return dataset if stop is None else dataset.take(max(stop - start, 0))


def own_files(path: str) -> re.Pattern[str]:
    """How the data set that is called so names files of its own. Any other path could be one of this machine, or of a
    data set that only this machine's user may read."""
    return re.compile(rf"((zip|tar)://[^:]*::)?hf://datasets/{re.escape(path)}@(?!.*(::|/\.\./)).+")


def with_media(value: Any, feature: Any, own: re.Pattern[str]) -> Any:
    """A value of a data set with the bytes of its media, where it has but the path of a file of its own."""
    from datasets import Audio, Image, LargeList, List, Video

    if isinstance(feature, Audio | Image | Video):
        if isinstance(value, Mapping) and value["bytes"] is None and own.fullmatch(value["path"] or ""):
            return {**value, "bytes": fetch(value["path"])}
        return value
    if isinstance(feature, Mapping) and isinstance(value, Mapping):
        return {key: with_media(each, feature.get(key), own) for key, each in value.items()}
    if isinstance(feature, List | LargeList) and isinstance(value, list):
        return [with_media(each, feature.feature, own) for each in value]
    return value


def _has_media(feature: Any) -> bool:
    from datasets import Audio, Image, LargeList, List, Video

    if isinstance(feature, Mapping):
        return any(map(_has_media, feature.values()))
    if isinstance(feature, List | LargeList):
        return _has_media(feature.feature)
    return isinstance(feature, Audio | Image | Video)


def fetch(path: str) -> bytes | None:
    """A file from afar; None where it is not there, or larger than a row may be."""
    from datasets.utils.file_utils import xopen
    from fsspec.spec import AbstractBufferedFile  # type: ignore[import-untyped]

    try:
        with xopen(path, "rb") as file:
            is_told = isinstance(file, AbstractBufferedFile)  # its size; that of what an archive holds may be a lie
            if is_told and file.size > MAX_ROW_BYTES:
                return None
            content: bytes = file.read() if is_told else file.read(MAX_ROW_BYTES + 1)
            return content if len(content) <= MAX_ROW_BYTES else None
    except FileNotFoundError:  # the row is bad, not the stream
        return None


def _no_file(source: str, index: int, name: str) -> bytes:
    raise DataError(source, index, f"{name!r} is no file of the data set", "missing_file")


def _cannot_reach(error: Exception) -> str:
    return f"cannot be read from the hub: {type(error).__name__}: {error}"

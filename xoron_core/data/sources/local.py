"""A source on this machine: the rows of its files, one file after the other, or a part of them."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from xoron_core.contract.config.data import SourceFormat
from xoron_core.contract.errors import DataError, SourceLostError
from xoron_core.contract.sources import MEDIA, Location
from xoron_core.data.records import Record
from xoron_core.data.sources.base import Source
from xoron_core.data.sources.csv_records import open_csv, scan_csv
from xoron_core.data.sources.folder import index_folder, open_folder
from xoron_core.data.sources.index import Index, IndexCache
from xoron_core.data.sources.json_array import open_json, scan_json
from xoron_core.data.sources.jsonl import open_jsonl, scan_jsonl
from xoron_core.data.sources.media import read_within
from xoron_core.data.sources.recent import Recent
from xoron_core.data.sources.rows import BadRowError, NotThisFormatError, RowFile, Tell
from xoron_core.data.sources.tables import (
    MIN_BLOCK_ROWS,
    ArrowRows,
    Blocks,
    ParquetRows,
    scan_arrow,
    scan_parquet,
)
from xoron_core.data.sources.tar import TarRows, scan_tar

MAX_OPEN_FILES = 64
MAX_BLOCKS = 2


@dataclass(frozen=True)
class Reader:
    """How the index of a file is had, and how its rows are read."""

    index: Callable[[IndexCache, Path, Tell], Index]
    open: Callable[[Path, Index, Blocks], RowFile]


def _reader(scan: Callable[[Path, Tell], Index], open_: Callable[[Path, Index], RowFile]) -> Reader:
    return Reader(_cached(scan), lambda path, index, _: open_(path, index))


def _cached(scan: Callable[[Path, Tell], Index]) -> Callable[[IndexCache, Path, Tell], Index]:
    return lambda cache, path, tell: cache.get(path, scan.__name__, lambda: scan(path, tell))


READERS: Mapping[SourceFormat, Reader] = {
    "jsonl": _reader(scan_jsonl, open_jsonl),
    "json": _reader(scan_json, open_json),
    "csv": _reader(scan_csv, open_csv),
    "parquet": Reader(_cached(scan_parquet), ParquetRows),
    "arrow": Reader(_cached(scan_arrow), ArrowRows),
    "webdataset": _reader(scan_tar, TarRows),
    "folder": Reader(index_folder, lambda path, index, _: open_folder(path, index)),
}


class FileSource(Source):
    """The rows of a split that lies on this machine.

    `cache`: the folder of indices. `on_progress` is told how far files have been looked through.
    Raises: DataError when a file is not of its format or there is no row; SourceLostError when a file cannot be
    reached.
    """

    def __init__(self, name: str, location: Location, cache: Path | None, on_progress: Callable[[str], None]) -> None:
        self.name = name
        self._location = location
        self._reader = READERS[location.format]
        self._indices = IndexCache(cache)
        self._tables: Blocks = Recent(MAX_BLOCKS, lambda _: None)
        self._opened: Recent[int, RowFile] = Recent(MAX_OPEN_FILES, lambda rows: rows.close())
        self._begins = [0]  # the first row of each file, and the end
        with ExitStack() as unless_done:
            unless_done.callback(self.close)
            blocks = self._look_through(on_progress)
            self._rows = location.rows.of(self._begins[-1])
            if not self._rows:
                raise self._no_row()
            unless_done.pop_all()
        inside = (block - self._rows.start for block in blocks if block < self._rows.stop)
        self._blocks = tuple(dict.fromkeys(max(block, 0) for block in inside))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def blocks(self) -> Sequence[int]:
        return self._blocks

    def read(self, index: int) -> Record:
        place = self._rows[index]
        number = bisect_right(self._begins, place) - 1
        path = self._location.files[number]
        with self._as_source(path, index):
            fields = self._opened.get(number, lambda: self._open(number)).fields(place - self._begins[number])
        return Record(self.name, index, fields, partial(self._read_media, index))

    def close(self) -> None:
        self._opened.clear()
        self._tables.clear()

    def _look_through(self, on_progress: Callable[[str], None]) -> list[int]:
        """Count the rows of every file; the rows where blocks begin. The first files stay open."""
        files, blocks = self._location.files, list[int]()
        sizes = [self._size(path) for path in files]
        for number, (path, before) in enumerate(zip(files, accumulate(sizes, initial=0), strict=False)):
            with self._as_source(path, None):
                index = self._reader.index(self._indices, path, self._tell(on_progress, before, sum(sizes)))
                if number < MAX_OPEN_FILES:
                    self._opened.get(number, partial(self._reader.open, path, index, self._tables))
            begin = self._begins[-1]
            if self._location.format in ("parquet", "arrow"):
                blocks += [begin + block for block in index.blocks]
            elif not blocks or begin - blocks[-1] >= MIN_BLOCK_ROWS:  # small files are read together
                blocks.append(begin)
            self._begins.append(begin + index.num_rows)
        return blocks

    def _size(self, path: Path) -> int:
        with self._as_source(path, None):
            return path.stat().st_size

    def _tell(self, on_progress: Callable[[str], None], before: int, total: int) -> Tell:
        if self._location.format == "folder":
            return lambda count: on_progress(f"{self.name}: {count:,} looked through")
        unit, unit_name = (1e9, "GB") if total >= 1e9 else (1e6, "MB")
        return lambda done: on_progress(f"{self.name}: {(before + done) / unit:.1f} of {total / unit:.1f} {unit_name}")

    def _no_row(self) -> DataError:
        first, *others = self._location.files
        if self._location.format == "folder" and not self._begins[-1]:
            reason = f"{first} has no row: no picture, sound or clip, told by {' '.join(MEDIA)}, is in it"
            return DataError(self.name, None, f"{reason}; put some there, or change path or the split")
        who = f"{first} and {len(others)} more have" if others else f"{first} has"
        part = f" in {self._location.rows}, of {self._begins[-1]}" if self._begins[-1] else ""
        return DataError(self.name, None, f"{who} no row{part}")

    def _open(self, number: int) -> RowFile:
        path = self._location.files[number]
        index = self._reader.index(self._indices, path, lambda _: None)
        if index.num_rows != self._begins[number + 1] - self._begins[number]:
            raise SourceLostError(self.name, f"{path} has changed since its rows were counted")
        return self._reader.open(path, index, self._tables)

    def _read_media(self, index: int, name: str) -> bytes:
        with self._as_source(self._location.root / name, index):
            return read_within(self._location.root, name)

    @contextmanager
    def _as_source(self, path: Path, index: int | None) -> Iterator[None]:
        """What is wrong with a row or a file, as what it is for the source."""
        try:
            yield
        except BadRowError as error:
            raise DataError(self.name, index, error.reason, error.kind) from error
        except NotThisFormatError as error:
            raise DataError(self.name, None, f"{path} {error}") from error
        except OSError as error:
            self.close()  # what is open may be of a disk that is no more
            raise SourceLostError(self.name, f"cannot read {path}: {error.strerror or error}") from error

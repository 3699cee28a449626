"""A folder of media files: what is said of each stands beside it, in a list of all, or is the name of its folder."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from xoron_core.data.sources.csv_records import open_csv, scan_csv
from xoron_core.data.sources.index import Index, IndexCache
from xoron_core.data.sources.jsonl import open_jsonl, scan_jsonl
from xoron_core.data.sources.media import read_within
from xoron_core.data.sources.members import fields_of, media_kind
from xoron_core.data.sources.rows import BadRowError, NotThisFormatError, RowFile, Tell

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
"""What a list of the media files in a folder is called; `file_name` says which."""

SIDECARS = (".TXT", ".CAPTION", ".JSON", ".txt", ".caption", ".json")
"""What stands beside a media file and says something of it; `a.jpg` and `a.txt`. The later counts more."""


class FolderRows(RowFile):
    """A row for each media file below a folder; its field `image`, `video` or `audio` is the file's path."""

    def __init__(self, path: Path, index: Index) -> None:
        self._path = path
        self._names = index.arrays["names"]
        self._ends = index.arrays["ends"]
        self._sidecars = index.arrays["sidecars"]

    def fields(self, index: int) -> Mapping[str, Any]:
        start = int(self._ends[index - 1]) if index else 0
        name = os.fsdecode(self._names[start : int(self._ends[index])].tobytes())
        stem = name.removesuffix(PurePath(name).suffix)
        bits = int(self._sidecars[index])
        beside = [suffix for bit, suffix in enumerate(SIDECARS) if bits >> bit & 1]
        fields = fields_of({suffix[1:].lower(): read_within(self._path, stem + suffix) for suffix in beside})
        folder = PurePath(name).parent.name
        if folder and not beside:
            fields |= {"label": folder, "caption": folder}
        return fields | {str(media_kind(name)): name, "file_name": name}

    def close(self) -> None:
        """Nothing is held."""


class MetadataRows(RowFile):
    """The rows of a folder's `metadata` file, each with the media file that it names in `file_name`."""

    def __init__(self, rows: RowFile) -> None:
        self._rows = rows

    def fields(self, index: int) -> Mapping[str, Any]:
        fields = self._rows.fields(index)
        name = fields.get("file_name")
        if not isinstance(name, str):
            raise BadRowError(f"field 'file_name' must be the name of a file, got {name!r:.80}", "wrong_type")
        kind = media_kind(name)
        return fields if kind is None else {kind: name, **fields}

    def close(self) -> None:
        self._rows.close()


def index_folder(cache: IndexCache, path: Path, tell: Tell) -> Index:
    """The rows of a folder's `metadata` file, or else the media files below it and what stands beside each, which holds
    as long as no folder changes. `tell` is told how many bytes, or else files, there are so far.

    Raises: NotThisFormatError; OSError.
    """
    metadata = _metadata_of(path)
    if metadata is not None:
        scan = scan_csv if metadata.suffix == ".csv" else scan_jsonl
        return cache.get(metadata, "metadata", lambda: scan(metadata, tell))
    index = cache.load(path, "folder", {})
    if index is None or not _is_current(path, index):
        index = _scan(path, tell)
        cache.save(path, "folder", {}, index)
    return index


def open_folder(path: Path, index: Index) -> RowFile:
    """The rows of a folder. Raises: OSError."""
    if "folders" in index.arrays:
        return FolderRows(path, index)
    metadata = _metadata_of(path)
    if metadata is None:
        raise FileNotFoundError(errno.ENOENT, "the file that lists its media is gone", str(path))
    return MetadataRows(open_csv(metadata, index) if metadata.suffix == ".csv" else open_jsonl(metadata, index))


def _metadata_of(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA_NAMES if (folder / name).is_file()), None)


def _is_current(path: Path, index: Index) -> bool:
    folders = json.loads(index.arrays["folders"].tobytes())
    try:
        return all((path / name).stat().st_mtime_ns == changed for name, changed in folders.items())
    except FileNotFoundError:
        return False


def _scan(path: Path, tell: Tell) -> Index:
    names, ends, sidecars = bytearray(), [], []
    folders: dict[str, int] = {}
    for folder, changed, inside in _walk(path):
        relative = folder.relative_to(path)
        folders[str(relative)] = changed
        for name in sorted(name for name in inside if media_kind(name)):
            stem = name.removesuffix(PurePath(name).suffix)
            names += os.fsencode(relative / name)
            ends.append(len(names))
            sidecars.append(sum((stem + suffix in inside) << bit for bit, suffix in enumerate(SIDECARS)))
        tell(len(ends))
    arrays: dict[str, npt.NDArray[Any]] = {
        "names": np.frombuffer(bytes(names), dtype=np.uint8),
        "ends": np.array(ends, dtype=np.int64),
        "sidecars": np.array(sidecars, dtype=np.uint8),
        "folders": np.frombuffer(json.dumps(folders).encode(), dtype=np.uint8),
    }
    return Index(len(ends), arrays=arrays)


def _walk(path: Path) -> Iterator[tuple[Path, int, set[str]]]:
    """Every folder, when it changed last, and the names of the files in it; what is hidden is left out."""
    changed = path.stat().st_mtime_ns  # before it is listed: what comes later is seen the next time
    with os.scandir(path) as listed:
        entries = [entry for entry in listed if not entry.name.startswith(".")]
    below = sorted(entry.name for entry in entries if entry.is_dir())
    if linked := sorted(entry.name for entry in entries if entry.is_symlink() and entry.name in below):
        raise NotThisFormatError(f"has a folder that is a link, {path / linked[0]}; put the folder itself there")
    yield path, changed, {entry.name for entry in entries}.difference(below)
    for name in below:
        yield from _walk(path / name)

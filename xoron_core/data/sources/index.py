"""Where the rows of a file are, found once and kept: arrays that are mapped into memory, and a little JSON."""

import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from xoron_core.contract.files import fsync_directory

INDEX_VERSION = 2
MIN_MAPPED_BYTES = 2**16
"""Smaller arrays are read: a mapped one holds a file handle."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """How many rows a file has, where parts of it begin that are read together, and where each row is."""

    num_rows: int
    blocks: tuple[int, ...] = (0,)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


class IndexCache:
    """Indices of files, in a folder that processes share; without one, or when it cannot be written, in memory.

    An index belongs to a path, size, time of change and inode. One that is damaged is as good as none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._held: dict[str, tuple[dict[str, Any], Index]] = {}

    def get(self, path: Path, kind: str, build: Callable[[], Index]) -> Index:
        """The index of a file, built where there is none. Raises: OSError when the file cannot be looked at."""
        stamp = file_stamp(path)
        index = self.load(path, kind, stamp)
        if index is not None:
            return index
        index = build()
        if file_stamp(path) != stamp:  # it grew meanwhile
            return index
        self.save(path, kind, stamp, index)
        return self.load(path, kind, stamp) or index  # mapped

    def load(self, path: Path, kind: str, stamp: dict[str, Any]) -> Index | None:
        """The index of a file that was like `stamp`; None where there is none."""
        key = _key(path, kind)
        if key in self._held:
            held, index = self._held[key]
            return index if held == stamp else None
        if self.folder is None:
            return None
        try:
            about = json.loads((self.folder / f"{key}.json").read_bytes())
            if about["version"] != INDEX_VERSION or about["stamp"] != stamp:
                return None
            arrays = {name: self._array(f"{key}.{name}.npy", sum_) for name, sum_ in about["arrays"].items()}
            return Index(about["num_rows"], tuple(about["blocks"]), arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
            log.warning("the index of %s is damaged and built anew: %s", path, error)
            return None

    def save(self, path: Path, kind: str, stamp: dict[str, Any], index: Index) -> None:
        """Keep an index."""
        key = _key(path, kind)
        if self.folder is not None:
            try:
                self._write(self.folder, key, path, stamp, index)
            except OSError as error:
                log.warning("the index of %s is kept in memory: %s cannot be written: %s", path, self.folder, error)
            else:
                return
        self._held[key] = (stamp, index)

    def _write(self, folder: Path, key: str, path: Path, stamp: dict[str, Any], index: Index) -> None:
        """Each file whole or not at all, so that several processes may write the same; what belongs together is told by
        the checksums."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in index.arrays.items():
            _replace(folder / f"{key}.{name}.npy", partial(np.save, arr=array))
        about = {
            "version": INDEX_VERSION,
            "path": str(path.absolute()),
            "stamp": stamp,
            "num_rows": index.num_rows,
            "blocks": index.blocks,
            "arrays": {name: _checksum(array) for name, array in index.arrays.items()},
        }
        _replace(folder / f"{key}.json", lambda file: file.write(json.dumps(about).encode()))
        fsync_directory(folder)

    def _array(self, name: str, checksum: int) -> npt.NDArray[Any]:
        assert self.folder is not None
        path = self.folder / name
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > MIN_MAPPED_BYTES else None)
        if _checksum(array) != checksum:
            raise ValueError(f"{path} is not what was written")
        return array


def file_stamp(path: Path) -> dict[str, Any]:
    """What tells that a file is still the same."""
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "inode": found.st_ino}


def _key(path: Path, kind: str) -> str:
    return hashlib.blake2b(f"{kind}:{path.absolute()}".encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _checksum(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

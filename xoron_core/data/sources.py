"""Reading rows by number from the files of a source."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xoron_core.contract.errors import DataError
from xoron_core.data.progress import nothing
from xoron_core.data.records import Record

CHUNK_BYTES = 2**24


class JsonlSource:
    """The rows of a JSONL file, by number; files that a row names lie beside it.

    `on_progress` is called every now and then while the file is looked through for them.
    Raises: DataError when the file is missing or has no row.
    """

    def __init__(self, name: str, path: Path, on_progress: Callable[[], None] = nothing) -> None:
        self.name = name
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(name, None, f"cannot open {path}: {error.strerror}") from error
        self._offsets = _line_offsets(self._file, on_progress)
        if len(self) == 0:
            self._file.close()
            raise DataError(name, None, f"{path} has no row")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def read(self, index: int) -> Record:
        """Row `index`.

        Raises: DataError when it is not a JSON object.
        """
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        line = os.pread(self._file.fileno(), stop - start, start)  # no position that a forked reader would share
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(self.name, index, f"not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DataError(self.name, index, f"not a JSON object but a {type(fields).__name__}")
        return Record(self.name, index, fields, lambda relative: self._read_file(index, relative))

    def _read_file(self, index: int, relative: str) -> bytes:
        folder = self.path.parent.resolve()
        try:
            path = (folder / relative).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL byte, a loop of links
            raise DataError(self.name, index, f"{relative!r} is no path: {error}") from error
        if not path.is_relative_to(folder):
            raise DataError(self.name, index, f"{relative!r} leads out of {folder}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(self.name, index, f"cannot read {relative!r}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _line_offsets(file: BinaryIO, on_progress: Callable[[], None]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where each line begins, and where the last ends; blank lines at the end do not count."""
    begins = [np.zeros(1, dtype=np.int64)]
    base = end = 0
    while chunk := file.read(CHUNK_BYTES):
        begins.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + (base + 1))
        if content := chunk.rstrip():
            end = base + len(content)
        base += len(chunk)
        on_progress()
    offsets = np.concatenate(begins)
    return np.append(offsets[offsets < end], end)

"""What the formats have in common: the rows of one file, by number."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xoron_core.contract.errors import BadKind

CHUNK_BYTES = 2**24
MAX_ROW_BYTES = 2**31
"""No row that anybody wants is as long; a file that seems to hold one is damaged."""

Tell = Callable[[int], None]
"""Is told how many bytes of a file have been looked through."""


class BadRowError(Exception):
    """A row at fault; whoever knows its source and number makes a DataError of it."""

    def __init__(self, reason: str, kind: BadKind = "unreadable") -> None:
        self.reason = reason
        self.kind = kind
        super().__init__(reason)


class NotThisFormatError(Exception):
    """A file that is not written as it should be, from the start; says what it is instead."""


class RowFile(ABC):
    """The rows of one file. Whatever is read raises BadRowError when a row is at fault, OSError when the file is."""

    @abstractmethod
    def fields(self, index: int) -> Mapping[str, Any]:
        """What stands in row `index`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


class ByteFile:
    """A file that is read at places, without a position that a forked reader would share."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`. Raises: BadRowError when there are not so many."""
        if stop - start > MAX_ROW_BYTES:
            raise BadRowError(f"takes {stop - start} bytes, {MAX_ROW_BYTES} are the most", "too_large")
        content = os.pread(self._fd, stop - start, start)
        while len(content) < stop - start:  # the system gives 2 GiB at once at most
            more = os.pread(self._fd, stop - start - len(content), start + len(content))
            if not more:
                raise BadRowError(f"the file is cut off {stop - start - len(content)} bytes before the row's end")
            content += more
        return content

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def chunks(path: Path, tell: Tell) -> Iterator[tuple[int, bytes]]:
    """A file piece by piece, each with the place where it begins."""
    start = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            tell(start + len(chunk))
            yield start, chunk
            start += len(chunk)

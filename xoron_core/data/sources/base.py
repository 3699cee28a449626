"""What the plan and the workers know of a source."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from xoron_core.contract.errors import DataError
from xoron_core.data.records import Record


class Source(ABC):
    """The rows of one split, by number. Every process that reads opens its own.

    Whatever is read raises DataError for a row at fault, and SourceLostError when it is the source that cannot be
    reached.
    """

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Rows."""

    @property
    def blocks(self) -> Sequence[int]:
        """Numbers of the rows where parts begin that are best read together (row groups), ascending from 0."""
        return (0,)

    @abstractmethod
    def read(self, index: int) -> Record:
        """Row `index`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""


class Stream(ABC):
    """Rows that can only be read one after the other, from a place that a state tells. One process reads it."""

    name: str

    @abstractmethod
    def take(self, count: int) -> list[Mapping[str, Any]]:
        """The next rows; fewer than `count` when a pass ends. Raises: SourceLostError; what was read so far is read
        again by the next call."""

    @abstractmethod
    def rewind(self) -> None:
        """Go to the first row, for another pass."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Where the next row is, as plain data."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go there."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""


def stream_record(source: str, index: int, fields: Mapping[str, Any]) -> Record:
    """A row of a stream, by its place in its pass: its media are in it, or nowhere."""

    def refuse(name: str) -> bytes:
        raise DataError(source, index, f"{name!r} is not in the stream; its rows must hold their media", "missing_file")

    return Record(source, index, fields, refuse)


def spread_rows(opened: Source | Stream, count: int) -> Iterator[tuple[int, Callable[[], Record]]]:
    """Numbers of rows spread evenly over a source (a stream's first), and how to read each."""
    if isinstance(opened, Stream):
        for index, fields in enumerate(opened.take(count)):
            yield index, partial(stream_record, opened.name, index, fields)
        return
    last, count = len(opened) - 1, min(len(opened), count)
    for index in sorted({at * last // max(1, count - 1) for at in range(count)}):
        yield index, partial(opened.read, index)

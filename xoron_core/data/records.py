"""What flows from a source to a micro-batch: tickets, records, samples."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from xoron_core.contract.errors import BadKind, DataError


@dataclass(frozen=True)
class StreamRow:
    """A row of a stream, which cannot be read again by its number: its fields, and its place `at` in a part of the
    stream that begins where `state` says."""

    fields: Mapping[str, Any]
    state: Mapping[str, Any]
    at: int


@dataclass(frozen=True)
class Ticket:
    """One draw of the plan: which row of which source, and the seed of everything random about it.

    `span`: only this part of its sample, where another part was in a micro-batch of a layout that is no more.
    """

    source: int
    index: int
    seed: int
    span: tuple[int, int] | None = None
    row: StreamRow | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Record:
    """A raw row. `read` gives the bytes of a file that the row names, relative to its source."""

    source: str
    index: int
    fields: Mapping[str, Any]
    read: Callable[[str], bytes]

    def text(self, key: str) -> str:
        """A field that must be a text with something in it.

        Raises: DataError when it is missing, empty, of another type or not Unicode.
        """
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise self.error(f"field {key!r} must be a text, got {value!r:.80}", "wrong_type")
        if not value.strip():
            raise self.error(f"field {key!r} must be a text that is not empty, got {value!r:.80}", "empty")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:  # JSON can write half a surrogate pair; no tokenizer takes it
                raise self.error(f"field {key!r} is not Unicode text: {error}") from error
        return value

    def media(self, key: str) -> bytes:
        """The bytes of a picture, clip or sound: the field holds them, `{bytes, path}`, or the name of a file.

        Raises: DataError when it does not, the file is missing, or there are no bytes in it.
        """
        value = self.fields.get(key)
        if key in self.fields and value in (None, ""):
            raise self.error(f"field {key!r} is empty", "empty")
        if isinstance(value, Mapping):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes | bytearray | memoryview):
            content = bytes(value)
        elif isinstance(value, str) and value.strip():
            content = self.read(value)
        else:
            what = "a name of a file, bytes, or {bytes, path}"
            raise self.error(f"field {key!r} must be {what}, got {value!r:.80}", "wrong_type")
        if not content:
            raise self.error(f"{self.media_name(key)} is empty", "empty")
        return content

    def media_name(self, key: str) -> str:
        """What messages call the picture, clip or sound of a field."""
        value = self.fields.get(key)
        path = value.get("path") if isinstance(value, Mapping) else value
        return repr(path) if isinstance(path, str) else f"the content of field {key!r}"

    def error(self, reason: str, kind: BadKind = "unreadable") -> DataError:
        """The error to raise about this row."""
        return DataError(self.source, self.index, reason, kind)


@dataclass(frozen=True)
class SampleOrigin:
    """Where a sample comes from and what its randomness is drawn from.

    `stratum` (k, n): of n evaluations of one row this is the k-th, with its time in the k-th of n equal parts.
    """

    source: str
    index: int
    seed: int
    stratum: tuple[int, int] = (0, 1)

    @property
    def id(self) -> str:
        """How messages call it."""
        return sample_id(self.source, self.index)


class Sample(Protocol):
    """What `prepare` makes of a record."""

    @property
    def origin(self) -> SampleOrigin:
        """Where it comes from."""

    @property
    def length(self) -> int:
        """Positions that it takes in a row; a micro-batch of rows that are not packed is as wide as its longest."""

    @property
    def shape(self) -> Hashable:
        """Samples of different shapes have no place in one micro-batch."""

    def piece(self, start: int, stop: int) -> "Sample":
        """The positions from `start` up to `stop`, where samples are packed."""


class Preparer(Protocol):
    """The half of a modality that a data set needs."""

    @property
    def name(self) -> str:
        """The modality's name."""

    @property
    def row_length(self) -> int | None:
        """Length of a row that samples are packed into; None where a sample is a row."""

    @property
    def rows_per_batch(self) -> int:
        """Rows of a micro-batch."""

    @property
    def batch_tokens(self) -> int | None:
        """Most positions of a micro-batch, padding included; None: `rows_per_batch` decides."""

    @property
    def varies_in_length(self) -> bool:
        """Whether samples that are not packed are worth sorting by length."""

    @property
    def max_per_epoch(self) -> int | None:
        """Most samples of an epoch; None: all."""

    def prepare(self, record: Record, origin: SampleOrigin) -> Sample:
        """The sample in a record. Raises: DataError."""

    def join(self, samples: Sequence[Any]) -> Sample:
        """The row that these samples and pieces make, one after the other, where samples are packed."""


@dataclass(frozen=True)
class BadSample:
    """A row that could not be read, of what kind its trouble is, and how many of its source could not so far."""

    source: str
    index: int
    kind: BadKind
    reason: str
    count: int = 0


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one modality, the names of the samples in them, and how many samples of each source begin there."""

    modality: str
    samples: tuple[Sample, ...]
    sample_ids: tuple[str, ...]
    begun: Mapping[str, int]


T = TypeVar("T")


@dataclass(frozen=True)
class Drawn(Generic[T]):
    """A micro-batch as the data set gives it: this rank's part (None where it has none), what all ranks say of theirs,
    and what happened on the way, on all of them: rows that were unreadable or (for the first time) left out, sources
    that were lost. `state` is the data set's right after it."""

    modality: str
    part: T | None
    sample_ids: tuple[str, ...]
    summaries: tuple[Any, ...]
    bad: tuple[BadSample, ...]
    skipped: tuple[str, ...]
    alerts: tuple[str, ...]
    ends_epoch: bool
    state: dict[str, Any]


def sample_id(source: str, index: int) -> str:
    """How messages and lists call a row."""
    return f"{source}[{index}]"


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that is a function of its parts alone, on every machine and in every version."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

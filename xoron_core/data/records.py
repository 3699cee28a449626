"""What flows from a source to a micro-batch: tickets, records, samples."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from xoron_core.contract.errors import DataError


@dataclass(frozen=True)
class Ticket:
    """One draw of the plan: which row of which source, and the seed of everything random about it."""

    modality: str
    source: int
    index: int
    seed: int


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
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"field {key!r} must be a text that is not empty, got {value!r:.80}")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:  # JSON can write half a surrogate pair; no tokenizer takes it
                raise self.error(f"field {key!r} is not Unicode text: {error}") from error
        return value

    def error(self, reason: str) -> DataError:
        """The error to raise about this row."""
        return DataError(self.source, self.index, reason)


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
    """What `prepare` makes of a record; `length` is what packing counts (tokens; 1 where nothing is packed)."""

    @property
    def origin(self) -> SampleOrigin:
        """Where it comes from."""

    @property
    def length(self) -> int:
        """Size in the unit of its modality's packing."""

    def piece(self, start: int, stop: int) -> "Sample":
        """The part of it from `start` up to `stop`."""


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

    def prepare(self, record: Record, origin: SampleOrigin) -> Sample:
        """The sample in a record. Raises: DataError."""


@dataclass(frozen=True)
class BadSample:
    """A row that could not be read, and how many of its source could not so far."""

    source: str
    index: int
    reason: str
    count: int


@dataclass(frozen=True)
class MicroBatch:
    """Samples of one modality, of all ranks, what was unreadable or (for the first time) left out on the way, and the
    data set's state right after them."""

    modality: str
    samples: tuple[Sample, ...]
    bad: tuple[BadSample, ...]
    ends_epoch: bool
    state: dict[str, Any]
    skipped: tuple[str, ...] = ()


def sample_id(source: str, index: int) -> str:
    """How messages and lists call a row."""
    return f"{source}[{index}]"


def derive_seed(*parts: object) -> int:
    """A 63-bit seed that is a function of its parts alone, on every machine and in every version."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

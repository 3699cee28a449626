"""A modality made of words that can be counted: rows `{"length": n}` become n words that occur nowhere else."""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xoron_core.data.records import Record, SampleOrigin

ROW_LENGTH = 8

Word = tuple[str, int]


@dataclass(frozen=True)
class Words:
    """A sample that can be cut anywhere."""

    origin: SampleOrigin
    words: tuple[Word, ...]
    shape: str = ""

    @property
    def length(self) -> int:
        return len(self.words)

    def piece(self, start: int, stop: int) -> "Words":
        return replace(self, words=self.words[start:stop])


@dataclass(frozen=True)
class Documents:
    """Prepares rows `{"length": n}`: n words that occur nowhere else."""

    name: str
    rows_per_batch: int
    row_length: int | None = ROW_LENGTH
    batch_tokens: int | None = None
    max_per_epoch: int | None = None
    varies_in_length: bool = True

    def prepare(self, record: Record, origin: SampleOrigin) -> Words:
        length = record.fields.get("length")
        if not isinstance(length, int):
            raise record.error("no length", "wrong_type")
        if trouble := record.fields.get("trouble"):
            self._get_into(str(trouble))
        if "file" in record.fields:
            record.media("file")
        first = record.index * 1000
        return Words(origin, tuple((record.source, word) for word in range(first, first + length)), f"{length % 2}")

    def join(self, samples: Sequence[Words]) -> Words:
        return replace(samples[0], words=tuple(word for sample in samples for word in sample.words))

    def _get_into(self, trouble: str) -> None:
        """What a row's `trouble` says happens to whoever prepares it."""
        match trouble:
            case "death":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "bug":
                raise RuntimeError("an error of the program")

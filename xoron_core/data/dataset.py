"""`TrueStreamingDataset`: holds no data, follows the plan, yields micro-batches, resumes exactly."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from math import ceil, sqrt
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import DataError
from xoron_core.contract.sources import split_file
from xoron_core.data.packing import RowPacker, count_rows, pack
from xoron_core.data.plan import Plan, PlannedSource
from xoron_core.data.progress import nothing
from xoron_core.data.records import BadSample, MicroBatch, Preparer, Sample, SampleOrigin, Ticket, sample_id
from xoron_core.data.sources import JsonlSource

MIN_DRAWS_TO_JUDGE = 20
CHANCE_SIGMAS = 4.0
ESTIMATE_DOCUMENTS = 4096


class TrueStreamingDataset(IterableDataset[MicroBatch]):
    """Interleaves sources by weight and yields micro-batches of one modality each, epoch after epoch.

    A row that cannot be read is counted, reported with the next micro-batch and passed over; past `max_bad_fraction`
    of a source's rows iteration raises DataError naming the source. A row in `skip` (`source[index]`) is passed over
    unread, counted, and told of the first time.

    `sources` are pairs (configuration, modality name); `weights` are the modalities' shares of the micro-batches;
    `num_ranks` processes share the rows of each, which has so many times as many. `on_progress` is called every now and
    then while sources are looked through.
    """

    def __init__(
        self,
        sources: Sequence[tuple[SourceConfig, str]],
        preparers: Mapping[str, Preparer],
        weights: dict[str, float],
        seed: int,
        max_bad_fraction: float,
        skip: Collection[str] = (),
        num_ranks: int = 1,
        on_progress: Callable[[], None] = nothing,
    ) -> None:
        self.readers = _open_readers((source for source, _ in sources), on_progress)
        self.preparers = preparers
        self.max_bad_fraction = max_bad_fraction
        self.skip = frozenset(skip)
        self.num_ranks = num_ranks
        self.on_progress = on_progress
        planned = [
            PlannedSource(source.name, modality, source.weight, len(reader), source.sample_repeat)
            for (source, modality), reader in zip(sources, self.readers, strict=True)
        ]
        self.plan = Plan(planned, weights, seed)
        self._num_drawn = [0] * len(planned)
        self._num_bad = [0] * len(planned)
        self._num_skipped: dict[str, int] = {}
        self._new_skipped: list[str] = []
        self._has_samples = False  # this epoch, so far
        self._pending: dict[str, tuple[Ticket, int]] = {}  # a document whose rest waits for the next micro-batch
        self._pending_samples: dict[str, Sample] = {}

    def __iter__(self) -> Iterator[MicroBatch]:
        while True:
            if self.plan.is_exhausted and not self._pending:
                self.plan.start_epoch(self.plan.epoch + 1)
                self._has_samples = False
            modality = self._next_modality()
            bad: list[BadSample] = []
            samples = self._assemble(self.preparers[modality], bad)
            self._has_samples = self._has_samples or bool(samples)
            ends_epoch = self.plan.is_exhausted and not self._pending
            if ends_epoch and not self._has_samples:
                raise self._nothing_is_left(bad)
            skipped, self._new_skipped = tuple(self._new_skipped), []
            if samples or bad or skipped or ends_epoch:
                yield MicroBatch(modality, tuple(samples), tuple(bad), ends_epoch, self.state_dict(), skipped)

    def _nothing_is_left(self, bad: Sequence[BadSample]) -> DataError:
        """The error to raise when an epoch ends and no row of it could be used."""
        last = f"; the last: {bad[-1].reason}" if bad else ""
        left_out = f" that is not among the {len(self._num_skipped)} left out" if self._num_skipped else ""
        return DataError(self.readers[-1].name, None, f"no row of any source{left_out} can be read{last}")

    def _next_modality(self) -> str:
        if self.plan.is_exhausted:
            return next(name for name in self.preparers if name in self._pending)
        return self.plan.next_modality()

    def _assemble(self, preparer: Preparer, bad: list[BadSample]) -> list[Sample]:
        """The samples of one micro-batch: as many as its rows hold, fewer at the end of an epoch."""
        samples: list[Sample] = []
        num_rows = self._num_rows(preparer)
        packer = RowPacker(num_rows, preparer.row_length or 1)
        while True:
            drawn = self._next_sample(preparer, bad)
            if drawn is None:
                return samples
            ticket, sample, start = drawn
            stop = min(sample.length, start + packer.row_length)
            if not packer.add(stop - start):
                self._hold(preparer.name, ticket, start, sample)
                return samples
            samples.append(sample if stop - start == sample.length else sample.piece(start, stop))
            if stop < sample.length:
                self._hold(preparer.name, ticket, stop, sample)
            elif preparer.row_length is None and len(samples) == num_rows:
                return samples

    def _num_rows(self, preparer: Preparer) -> int:
        """Rows of a micro-batch, of all ranks."""
        return preparer.rows_per_batch * self.num_ranks

    def _next_sample(self, preparer: Preparer, bad: list[BadSample]) -> tuple[Ticket, Sample, int] | None:
        """The next readable document of a modality and where to go on in it; None when this epoch has no more."""
        if preparer.name in self._pending:
            ticket, start = self._pending.pop(preparer.name)
            sample = self._pending_samples.pop(preparer.name, None)
            if sample is not None or not self._is_skipped(self.readers[ticket.source].name, ticket.index):
                return ticket, sample or self._prepare(preparer, ticket), start
        while self.plan.has_rows(preparer.name):
            ticket = self.plan.next_ticket(preparer.name)
            self._num_drawn[ticket.source] += 1
            if self._is_skipped(self.readers[ticket.source].name, ticket.index):
                continue
            try:
                return ticket, self._prepare(preparer, ticket), 0
            except DataError as error:
                bad.append(self._count_bad(ticket, error))
        return None

    def _is_skipped(self, source: str, index: int) -> bool:
        """Whether a row is to be passed over; it is counted then."""
        name = sample_id(source, index)
        if name not in self.skip:
            return False
        self._num_skipped[name] = self._num_skipped.get(name, 0) + 1
        if self._num_skipped[name] == 1:
            self._new_skipped.append(name)
        return True

    def _prepare(self, preparer: Preparer, ticket: Ticket) -> Sample:
        reader = self.readers[ticket.source]
        return preparer.prepare(reader.read(ticket.index), SampleOrigin(reader.name, ticket.index, ticket.seed))

    def _hold(self, modality: str, ticket: Ticket, start: int, sample: Sample) -> None:
        self._pending[modality] = (ticket, start)
        self._pending_samples[modality] = sample

    def _count_bad(self, ticket: Ticket, error: DataError) -> BadSample:
        self._num_bad[ticket.source] += 1
        num_bad, num_drawn = self._num_bad[ticket.source], self._num_drawn[ticket.source]
        name = self.readers[ticket.source].name
        if self._has_too_many_bad(ticket.source):
            raise DataError(
                name,
                ticket.index,
                f"{error.reason}; that makes {num_bad} unreadable rows of {num_drawn}, more than "
                f"data.max_bad_fraction {self.max_bad_fraction} allows; mend the source or raise the limit",
            ) from error
        return BadSample(name, ticket.index, error.reason, num_bad)

    def _has_too_many_bad(self, source: int) -> bool:
        """Whether more of a source's rows are unreadable than may be.

        Certain as soon as they are too many for all the rows of the rounds begun; believed before that when they are
        so many of the rows drawn that chance does not explain it.
        """
        num_bad, num_drawn, limit = self._num_bad[source], self._num_drawn[source], self.max_bad_fraction
        num_rows = len(self.readers[source])
        num_rounds = -(-num_drawn // num_rows)
        if num_bad / (num_rounds * num_rows) > limit:
            return True
        chance = CHANCE_SIGMAS * sqrt(limit * (1 - limit) * num_drawn)
        return num_drawn >= MIN_DRAWS_TO_JUDGE and num_bad > limit * num_drawn + chance

    @property
    def source_counts(self) -> dict[str, int]:
        """Rows drawn from each source since the run began."""
        return {reader.name: count for reader, count in zip(self.readers, self._num_drawn, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Where the next micro-batch begins, as plain data."""
        return {
            "plan": self.plan.state_dict(),
            "drawn": self.source_counts,
            "bad": {reader.name: count for reader, count in zip(self.readers, self._num_bad, strict=True)},
            "skipped": dict(self._num_skipped),
            "has_samples": self._has_samples,
            "pending": {
                name: {"source": self.readers[ticket.source].name, "index": ticket.index, "seed": ticket.seed, "at": at}
                for name, (ticket, at) in self._pending.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved state left off."""
        self.plan.load_state_dict(state["plan"])
        names = [reader.name for reader in self.readers]
        self._num_drawn = [state["drawn"].get(name, 0) for name in names]
        self._num_bad = [state["bad"].get(name, 0) for name in names]
        self._num_skipped = dict(state.get("skipped", {}))  # an earlier version skipped nothing
        self._new_skipped = []
        self._has_samples = state.get("has_samples", True)  # an earlier version did not tell
        self._pending_samples = {}
        self._pending = {
            modality: (Ticket(modality, names.index(entry["source"]), entry["index"], entry["seed"]), entry["at"])
            for modality, entry in state["pending"].items()
            if entry["source"] in names and modality in self.preparers
        }

    def estimate_epoch(self, num_probes: int = 256) -> int:
        """About how many micro-batches an epoch has; packing is tried on documents spread over each source."""
        return sum(
            ceil(self._estimate_rows(name, preparer, num_probes) / self._num_rows(preparer))
            for name, preparer in self.preparers.items()
        )

    def _estimate_rows(self, modality: str, preparer: Preparer, num_probes: int) -> float:
        pairs = zip(self.readers, self.plan.sources, strict=True)
        own = [(reader, source.num_draws) for reader, source in pairs if source.modality == modality]
        num_draws = sum(draws for _, draws in own)
        if preparer.row_length is None or not own:
            return num_draws
        share = min(1.0, ESTIMATE_DOCUMENTS / num_draws)
        lengths = np.concatenate(
            [np.resize(self._probe(reader, preparer, num_probes), ceil(draws * share)) for reader, draws in own]
        )
        shuffled = np.random.Generator(np.random.PCG64(0)).permutation(lengths)
        return count_rows(shuffled.tolist(), preparer.row_length) / share

    def _probe(self, reader: JsonlSource, preparer: Preparer, num_probes: int) -> list[int]:
        """Lengths of rows spread over a source; 0 for those that cannot be read."""
        lengths = []
        for index in sorted({int(at) for at in np.linspace(0, len(reader) - 1, num_probes)}):
            self.on_progress()
            try:
                lengths.append(preparer.prepare(reader.read(index), SampleOrigin(reader.name, index, 0)).length)
            except DataError:  # counted when the plan draws it
                lengths.append(0)
        return lengths

    def close(self) -> None:
        """Let go of the sources' files."""
        for reader in self.readers:
            reader.close()


def share_of(samples: Sequence[Sample], preparer: Preparer, rank: int, num_ranks: int) -> list[Sample]:
    """What of a micro-batch one of its ranks trains on: every `num_ranks`-th row. It may be nothing."""
    if preparer.row_length is None:
        return list(samples[rank::num_ranks])
    rows = pack([sample.length for sample in samples], preparer.rows_per_batch * num_ranks, preparer.row_length)
    return [samples[at] for row in rows[rank::num_ranks] for at in row]


def _open_readers(sources: Iterable[SourceConfig], on_progress: Callable[[], None]) -> list[JsonlSource]:
    """A reader for each source; none stays open when one of them cannot be opened."""
    with ExitStack() as opened:
        readers = [
            opened.enter_context(closing(JsonlSource(source.name, split_file(source, source.split), on_progress)))
            for source in sources
        ]
        opened.pop_all()
    return readers

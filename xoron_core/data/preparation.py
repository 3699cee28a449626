"""From tickets to micro-batches: what a worker does, or the trainer's process itself where it has none."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.errors import DataError, SourceLostError
from xoron_core.data.formats import format_record
from xoron_core.data.packing import Layout, Row, arrange, joined
from xoron_core.data.records import (
    BadSample,
    MicroBatch,
    Preparer,
    Sample,
    SampleOrigin,
    Ticket,
    sample_id,
)
from xoron_core.data.retry import retried
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source, Stream, stream_record


@dataclass(frozen=True)
class Job:
    """One rank's share of a window. `first`: micro-batches that were used already; `deadly`: places of tickets whose
    reading killed a worker, again and again."""

    modality: str
    tickets: tuple[Ticket, ...]
    layout: Layout
    seed: int
    first: int = 0
    deadly: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Report:
    """What became of a job's tickets: how many micro-batches, how many rows of each source were looked at, which were
    unreadable, and which could not be reached (places in the job), with the reason of each such source."""

    num_parts: int
    tried: Mapping[str, int]
    bad: tuple[BadSample, ...]
    lost: tuple[int, ...]
    losses: Mapping[str, str]


@dataclass
class _Decoded:
    samples: list[Sample] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    bad: list[BadSample] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)


class Preparation:
    """Reads, decodes and arranges. Sources are opened when they are needed, in each process anew."""

    def __init__(
        self,
        sources: Sequence[SourceConfig],
        preparers: Mapping[str, Preparer],
        num_retries: int,
        cache: Path | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.preparers = preparers
        self.num_retries = num_retries
        self.cache = cache
        self._opened: dict[int, Source] = {}
        self._lost: dict[str, str] = {}  # sources that were away when last looked at, and why

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def parts(self, job: Job, at: Callable[[int], None]) -> Iterator[Report | MicroBatch]:
        """First what became of the tickets, then the micro-batches. `at` is told the place of each ticket before it is
        read, and -1 after the last."""
        decoded, groups = self._arranged(job, at)
        losses = {name: self._lost[name] for name in {self._name(job.tickets[place]) for place in decoded.lost}}
        yield Report(len(groups), decoded.tried, tuple(decoded.bad), tuple(decoded.lost), losses)
        for group in groups[job.first :]:
            yield self._micro_batch(job, decoded, group)

    def remaining(self, job: Job) -> list[Ticket]:
        """The tickets of the micro-batches that were not used, with spans where some of a sample was.

        Raises: SourceLostError when some of the job's rows cannot be reached, without which nobody knows.
        """
        decoded, groups = self._arranged(job, lambda _: None)
        if decoded.lost:
            name = self._name(job.tickets[decoded.lost[0]])
            raise SourceLostError(name, f"{self._lost[name]}; rows that the run had begun with are there")
        tickets = []
        for number, start, stop in joined(piece for group in groups[job.first :] for row in group for piece in row):
            ticket = job.tickets[decoded.places[number]]
            if stop - start < decoded.samples[number].length:
                base = ticket.span[0] if ticket.span is not None else 0
                ticket = Ticket(ticket.source, ticket.index, ticket.seed, (base + start, base + stop), ticket.row)
            tickets.append(ticket)
        return tickets

    def sample(self, modality: str, ticket: Ticket) -> Sample:
        """The sample of a ticket. Raises: DataError; SourceLostError."""
        config = self.sources[ticket.source]
        if ticket.row is not None:
            record = stream_record(config.name, ticket.index, ticket.row.fields)
        else:
            record = self._source(ticket.source).read(ticket.index)
        origin = SampleOrigin(config.name, ticket.index, ticket.seed)
        sample = self.preparers[modality].prepare(format_record(record, config, ticket.seed), origin)
        return sample if ticket.span is None else sample.piece(*ticket.span)

    def close(self) -> None:
        """Let go of the sources."""
        for source in self._opened.values():
            source.close()
        self._opened.clear()

    def _arranged(self, job: Job, at: Callable[[int], None]) -> tuple[_Decoded, list[list[Row]]]:
        decoded = self._decode(job, at)
        lengths = [sample.length for sample in decoded.samples]
        shapes = [sample.shape for sample in decoded.samples]
        return decoded, arrange(lengths, shapes, job.layout, job.seed)

    def _decode(self, job: Job, at: Callable[[int], None]) -> _Decoded:
        decoded = _Decoded()
        for place, ticket in enumerate(job.tickets):
            at(place)
            name = self._name(ticket)
            try:
                sample = self._reached(job, place)
            except SourceLostError as error:
                self._lost[name] = error.reason
                decoded.lost.append(place)
                continue
            except DataError as error:
                decoded.bad.append(BadSample(name, ticket.index, error.kind, error.reason))
            else:
                decoded.samples.append(sample)
                decoded.places.append(place)
            self._lost.pop(name, None)
            decoded.tried[name] += 1
        at(-1)
        return decoded

    def _reached(self, job: Job, place: int) -> Sample:
        """A source that was away is asked once, and given time only when it goes away."""
        ticket = job.tickets[place]
        if place in job.deadly:
            reason = "whoever reads it dies of it or never comes back; remove the row"
            raise DataError(self._name(ticket), ticket.index, reason, "killed_worker")
        num_retries = 0 if self._name(ticket) in self._lost else self.num_retries
        return retried(lambda: self.sample(job.modality, ticket), num_retries)

    def _micro_batch(self, job: Job, decoded: _Decoded, group: Sequence[Row]) -> MicroBatch:
        preparer = self.preparers[job.modality]
        rows: list[Sample] = []
        ids: list[str] = []
        begun: Counter[str] = Counter()
        for row in group:
            members = []
            for number, start, stop in row:
                sample, ticket = decoded.samples[number], job.tickets[decoded.places[number]]
                members.append(sample if stop - start == sample.length else sample.piece(start, stop))
                ids.append(sample_id(self._name(ticket), ticket.index))
                begun[self._name(ticket)] += start == 0 and (ticket.span is None or ticket.span[0] == 0)
            rows.append(members[0] if job.layout.row_length is None else preparer.join(members))
        return MicroBatch(job.modality, tuple(rows), tuple(ids), dict(begun))

    def _name(self, ticket: Ticket) -> str:
        return self.sources[ticket.source].name

    def _source(self, number: int) -> Source:
        if number not in self._opened:
            config = self.sources[number]
            opened = open_source(config, config.split, self.cache)
            assert not isinstance(opened, Stream), "rows of a stream come with their tickets"
            self._opened[number] = opened
        return self._opened[number]

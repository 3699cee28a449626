"""`TrueStreamingDataset`: holds no data, follows the plan, yields micro-batches, resumes exactly."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch.utils.data import IterableDataset

from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.contract.errors import AnotherFormatError, DataError, RanksDifferError, SourceLostError
from xoron_core.data.bad_rows import BadRows
from xoron_core.data.feeds import open_feeds
from xoron_core.data.lane import Lane, Runner, Taken
from xoron_core.data.packing import Layout
from xoron_core.data.plan import Plan, draw
from xoron_core.data.preparation import Preparation
from xoron_core.data.records import BadSample, Drawn, MicroBatch, Preparer, Ticket
from xoron_core.data.runner import Here

T = TypeVar("T")
X = TypeVar("X")


def alone(item: X) -> list[X]:
    """What ranks exchange where there is only one."""
    return [item]


@dataclass(frozen=True)
class DataShare:
    """Which of several processes this is. `exchange` gives every one's item, in the order of ranks."""

    rank: int = 0
    num_ranks: int = 1
    exchange: Callable[[Any], list[Any]] = alone


@dataclass(frozen=True)
class _Told:
    """What one rank tells the others of its part of a micro-batch."""

    modality: str
    digest: int
    position: tuple[int, int]
    has_more: bool
    sample_ids: tuple[str, ...]
    begun: Mapping[str, int]
    tried: Mapping[str, int]
    bad: tuple[BadSample, ...]
    lost: tuple[Ticket, ...]
    losses: Mapping[str, str]
    skipped: tuple[str, ...]
    summary: Any


class TrueStreamingDataset(IterableDataset[MicroBatch]):
    """Interleaves sources by weight and yields micro-batches of one modality each, epoch after epoch.

    A row that cannot be read is counted, told with a micro-batch and passed over; past `max_bad_fraction` of a source's
    rows iteration raises DataError naming the source. A source that cannot be reached is tried again, then left out
    until the next epoch or attempt, which begins with what it owes. A row in `skip` (`source[index]`) is passed over
    unread, counted, and told of the first time.

    `sources` are pairs (configuration, modality name); `weights` are the modalities' shares of the micro-batches. Of
    several processes (`share`) each reads its own rows only; all follow the plan in step. `cache` is where indexes of
    files are kept. `on_progress` is called every now and then while something takes long.
    """

    def __init__(
        self,
        sources: Sequence[tuple[SourceConfig, str]],
        preparers: Mapping[str, Preparer],
        weights: dict[str, float],
        seed: int,
        config: DataConfig,
        *,
        skip: Collection[str] = (),
        share: DataShare | None = None,
        cache: Path | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.preparers = preparers
        self.weights = weights
        self.share = share or DataShare()
        self.on_progress = on_progress
        self.preparation = Preparation([source for source, _ in sources], preparers, config.max_read_retries, cache)
        self.feeds = open_feeds(sources, preparers, config, seed, cache, lambda _: on_progress())
        self.skip = frozenset(skip)
        self.lanes: dict[str, Lane[Any]] = {
            name: Lane(name, Plan(self.feeds[name]), self._layout(preparer), self.share.rank, self.skip, seed)
            for name, preparer in preparers.items()
        }
        num_rows = {feed.name: feed.num_rows for feeds in self.feeds.values() for feed in feeds}
        self.bad_rows = BadRows(num_rows, config.max_bad_fraction)
        self.epoch = 0
        self._credit = dict.fromkeys(weights, 0.0)
        self._positions = {name: lane.begin(self.epoch) for name, lane in self.lanes.items()}
        self._drawn: Counter[str] = Counter(dict.fromkeys(num_rows, 0))
        self._skipped: Counter[str] = Counter()
        self._has_samples = False  # this epoch, so far
        self._lost: dict[str, str] = {}  # this epoch, and why
        self._alerts: list[str] = []

    def __iter__(self) -> Iterator[MicroBatch]:
        """This process's micro-batches, prepared here; `follow` also tells what happens on the way."""
        for drawn in self.follow(Here(self.preparation, lambda micro: micro, self.on_progress)):
            if drawn.part is not None:
                yield drawn.part

    def follow(self, runner: Runner[T], summary: Callable[[T], Any] = lambda _: None) -> Iterator[Drawn[T]]:
        """Micro-batches without end, as `runner` makes them. `summary` is what ranks tell each other of a part."""
        for lane in self.lanes.values():
            lane.close()  # what another runner was to do
        is_open = self._is_open()
        self._start_ahead(runner)
        seen_bad: tuple[BadSample, ...] = ()
        while True:
            if not any(is_open.values()):
                is_open = self._begin_epoch()
                self._start_ahead(runner)
            modality = draw({name: self.weights[name] for name, is_left in is_open.items() if is_left}, self._credit)
            taken = self.lanes[modality].take(runner, self.epoch)
            told = self._exchange(modality, taken, summary)
            bad = self._count(told)
            skipped = self._newly_skipped(told)
            seen_bad = bad or seen_bad
            is_open[modality] = any(theirs.has_more for theirs in told)
            self._lose(modality, told, runner.ahead)
            ends_epoch = not any(is_open.values())
            if ends_epoch:
                self._check_end(seen_bad)
            yield Drawn(
                modality=modality,
                part=None if taken.part is None else taken.part.payload,
                sample_ids=tuple(name for theirs in told for name in theirs.sample_ids),
                summaries=tuple(theirs.summary for theirs in told if theirs.sample_ids),
                bad=bad,
                skipped=skipped,
                alerts=self._take_alerts(),
                ends_epoch=ends_epoch,
                state=self.state_dict(),
            )

    def _start_ahead(self, runner: Runner[Any]) -> None:
        """What is wanted first of every modality, before what is wanted later of any."""
        for depth in range(runner.ahead + 1) if runner.ahead else ():
            for lane in self.lanes.values():
                if lane.has_more(self.epoch):
                    lane.start_ahead(runner, depth)

    def _begin_epoch(self) -> dict[str, bool]:
        """Raises: DataError when no source has anything."""
        self.epoch += 1
        self._has_samples = False
        self._lost.clear()
        self._positions = {name: lane.begin(self.epoch) for name, lane in self.lanes.items()}
        is_open = self._is_open()
        if not any(is_open.values()):
            self._check_end(())
        return is_open

    def _is_open(self) -> dict[str, bool]:
        """Whether any rank has something left in this epoch, by modality."""
        return {name: lane.is_open(self.epoch, self._positions[name]) for name, lane in self.lanes.items()}

    def _exchange(self, modality: str, taken: Taken[T], summary: Callable[[T], Any]) -> list[_Told]:
        """What all ranks say of their parts. Raises: RanksDifferError, on all of them, when their plans differ."""
        lane, part, report = self.lanes[modality], taken.part, taken.report
        own = _Told(
            modality=modality,
            digest=lane.window(lane.number).digest,
            position=(lane.number, lane.taken),
            has_more=lane.has_more(self.epoch),
            sample_ids=() if part is None else part.sample_ids,
            begun={} if part is None else part.begun,
            tried={} if report is None else report.tried,
            bad=() if report is None else report.bad,
            lost=() if report is None else tuple(taken.tickets[place] for place in report.lost),
            losses={} if report is None else report.losses,
            skipped=taken.skipped,
            summary=None if part is None else summary(part.payload),
        )
        told: list[_Told] = self.share.exchange(own)
        for rank, theirs in enumerate(told):
            same_window = theirs.position[0] == lane.number
            if theirs.modality != modality or (same_window and theirs.digest != own.digest):
                raise RanksDifferError(
                    f"ranks {self.share.rank} and {rank} are to read different rows of {modality}; see that all of "
                    "them find the same files behind every source"
                )
        self._positions[modality] = [theirs.position for theirs in told]
        lane.forget_before(min(number for number, _ in self._positions[modality]))
        return told

    def _count(self, told: Sequence[_Told]) -> tuple[BadSample, ...]:
        """Count what all ranks read; the rows that were unreadable. Raises: DataError when there are too many."""
        for theirs in told:
            self._drawn.update(theirs.begun)
            self._drawn.update(row.source for row in theirs.bad)
            self._has_samples = self._has_samples or bool(theirs.sample_ids)
        return self.bad_rows.count((row for theirs in told for row in theirs.bad), [theirs.tried for theirs in told])

    def _newly_skipped(self, told: Sequence[_Told]) -> tuple[str, ...]:
        """Rows that are left out for the first time."""
        names = [name for theirs in told for name in theirs.skipped]
        new = tuple(name for name in dict.fromkeys(names) if name not in self._skipped)
        self._skipped.update(names)
        return new

    def _lose(self, modality: str, told: Sequence[_Told], ahead: int) -> None:
        """Leave out the sources that a rank could not reach."""
        lane = self.lanes[modality]
        reasons = {name: reason for theirs in told for name, reason in theirs.losses.items()}
        reasons |= {error.source: error.reason for error in lane.plan.losses}
        lane.plan.losses.clear()
        if lost := [ticket for theirs in told for ticket in theirs.lost]:
            lane.window(
                max(number for number, _ in self._positions[modality]) + ahead
            )  # as far as any rank has planned
            lane.owe(lost)
        self._alerts += [
            f"source {name!r} cannot be reached ({reason}); it is left out, its place is kept, and it is tried again "
            "with the next epoch, or when the run is resumed"
            for name, reason in reasons.items()
            if name not in self._lost
        ]
        self._lost |= reasons

    def _take_alerts(self) -> tuple[str, ...]:
        alerts, self._alerts = tuple(self._alerts), []
        return alerts

    def _check_end(self, bad: Sequence[BadSample]) -> None:
        """See that an epoch that ends has had something.

        Raises: SourceLostError when it ends because nothing can be reached; DataError when no row of it could be used.
        """
        names = {feed.name for feeds in self.feeds.values() for feed in feeds}
        if names == self._lost.keys():
            name, reason = next(iter(self._lost.items()))
            raise SourceLostError(name, f"{reason}; there is no other source to go on with")
        if not self._has_samples:
            last = f"; the last: {bad[-1].reason}" if bad else ""
            left_out = f" that is not among the {len(self._skipped)} left out" if self._skipped else ""
            raise DataError(max(names), None, f"no row of any source{left_out} can be read{last}")

    def _layout(self, preparer: Preparer) -> Layout:
        rows = preparer.rows_per_batch
        if preparer.row_length is not None:
            window = self.config.pack_window
        else:
            window = rows * (self.config.bucket_window if preparer.varies_in_length else 1)
        return Layout(self.share.num_ranks, window, rows, preparer.row_length, preparer.batch_tokens)

    @property
    def source_counts(self) -> dict[str, int]:
        """Rows used of each source since the run began, and those that could not be."""
        return dict(self._drawn)

    def state_dict(self) -> dict[str, Any]:
        """Where the next micro-batch begins, as plain data."""
        return {
            "epoch": self.epoch,
            "credit": dict(self._credit),
            "drawn": dict(self._drawn),
            "skip": sorted(self.skip),
            "skipped": dict(self._skipped),
            "has_samples": self._has_samples,
            **self.bad_rows.state_dict(),
            "lanes": {name: lane.state_dict(self._positions[name]) for name, lane in self.lanes.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved state left off, whatever the number of ranks was then. A source or modality that the
        state does not know starts at its beginning.

        Raises: AnotherFormatError when an earlier version wrote it; SourceLostError when rows that were begun with
        cannot be reached.
        """
        if "lanes" not in state:
            raise AnotherFormatError("the checkpoint tells its place in the data as an earlier version did; start anew")
        self.epoch = state["epoch"]
        self._has_samples = state["has_samples"]
        self._credit = {name: state["credit"].get(name, 0.0) for name in self._credit}
        self._drawn = Counter({name: state["drawn"].get(name, 0) for name in self._drawn})
        self._skipped = Counter(state["skipped"])
        self._lost.clear()
        self.bad_rows.load_state_dict(state)
        for name, lane in self.lanes.items():
            if (saved := state["lanes"].get(name)) is None:
                self._positions[name] = lane.restart(self.epoch)
            else:
                self._positions[name] = lane.load_state_dict(saved, self.epoch, state["skip"], self.preparation)
                if not lane.is_exact:
                    self._alerts.append(
                        f"the sources of {name} are not what they were: rows of the windows in use may come twice in "
                        "this epoch"
                    )

    def close(self) -> None:
        """Let go of the sources."""
        for lane in self.lanes.values():
            lane.close()
        for feeds in self.feeds.values():
            for feed in feeds:
                feed.close()
        self.preparation.close()

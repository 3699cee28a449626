"""One rank's way through the windows of one modality.

A window is the next so many tickets of the plan for every rank; they are dealt out after a shuffle of their own, since
sources that take turns would otherwise fall to one rank each. Ranks go through their shares at their own pace: packing
makes more rows of one share than of another. Which windows there are is the same on all of them.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from xoron_core.contract.errors import SourceLostError
from xoron_core.data.packing import Layout
from xoron_core.data.plan import Plan, plain_ticket
from xoron_core.data.preparation import Job, Preparation, Report
from xoron_core.data.records import Ticket, derive_seed, sample_id

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Part(Generic[T]):
    """A micro-batch of a job, as whoever did it made it, the names of its samples and how many of each source begin."""

    payload: T
    sample_ids: tuple[str, ...]
    begun: Mapping[str, int]


class Running(Protocol[T]):
    """A job that is being done. Both calls wait."""

    def report(self) -> Report:
        """What became of its tickets."""

    def next_part(self) -> Part[T]:
        """The next micro-batch."""

    def close(self) -> None:
        """Nothing more is wanted of it."""


class Runner(Protocol[T]):
    """Does jobs, here or elsewhere. `ahead`: windows after the one in use that are worth starting."""

    @property
    def ahead(self) -> int:
        """Zero where nothing is done before it is waited for."""

    def start(self, job: Job) -> Running[T]:
        """Begin a job, or put it in a queue."""


@dataclass(frozen=True)
class Window:
    """`tickets` of all ranks, dealt in turn; `start` is the plan's state before them, and before the epoch if one
    begins with them."""

    number: int
    epoch: int
    tickets: tuple[Ticket, ...]
    start: dict[str, Any]

    def share(self, rank: int, num_ranks: int) -> tuple[Ticket, ...]:
        """The tickets of a rank."""
        return self.tickets[rank::num_ranks]

    @cached_property
    def digest(self) -> int:
        """Tells windows of different tickets apart."""
        return derive_seed(*((ticket.source, ticket.index, ticket.seed, ticket.span) for ticket in self.tickets))


@dataclass(frozen=True)
class Taken(Generic[T]):
    """What a lane gave: a micro-batch, if there was one, and, where a window began with it, what became of its
    tickets."""

    part: Part[T] | None
    report: Report | None = None
    tickets: tuple[Ticket, ...] = ()
    skipped: tuple[str, ...] = ()


class Lane(Generic[T]):
    """`number` is the window in use and `taken` how many micro-batches of it were; all before it are done."""

    def __init__(self, modality: str, plan: Plan, layout: Layout, rank: int, skip: Collection[str], seed: int) -> None:
        self.modality = modality
        self.plan = plan
        self.layout = layout
        self.rank = rank
        self.skip = skip
        self.seed = seed
        self.number = self.taken = 0
        self.is_exact = True
        self._last_begun = -1  # before a resume; what sources owed then comes after it
        self._names = {feed.number: feed.name for feed in plan.feeds}
        self._windows: deque[Window] = deque()
        self._next_number = 0
        self._owed: list[tuple[Ticket, int | None]] = []  # with the window that begins with it, once that is known
        self._absences: list[tuple[str, int, int | None]] = []  # of a source, and from which window up to which
        self._running: dict[int, tuple[Job, Running[T]]] = {}
        self._beginning = plan.state_dict()

    def window(self, number: int, layout: Layout | None = None) -> Window:
        """A window that is not forgotten; those that are not planned yet are. An epoch begins with a window."""
        while self._next_number <= number:
            self._windows.append(self._plan_window(layout or self.layout))
            self._next_number += 1
        return self._windows[number - self._next_number]

    def has_more(self, epoch: int) -> bool:
        """Whether this rank has something left in an epoch."""
        return self.window(self.number).epoch == epoch

    def restart(self, epoch: int) -> list[tuple[int, int]]:
        """Begin anew, in an epoch that others have come to; the positions of all ranks."""
        self._forget(0)
        self.plan.load_state_dict({**self._beginning, "epoch": epoch})
        self.number = 0
        return self.begin(epoch)

    def settled(self, rank: int, number: int, epoch: int) -> int:
        """The first window from `number` on in which a rank has something, if it has in this epoch; else the first of
        the next."""
        while self.window(number).epoch == epoch and not self.window(number).share(rank, self.layout.num_ranks):
            number += 1
        return number

    def begin(self, epoch: int) -> list[tuple[int, int]]:
        """Go to the first window of an epoch that begins where all ranks are; their positions."""
        numbers = [self.settled(rank, self.number, epoch) for rank in range(self.layout.num_ranks)]
        self.number, self.taken = numbers[self.rank], 0
        return [(number, 0) for number in numbers]

    def start_ahead(self, runner: Runner[T], depth: int) -> None:
        """See that the window in use, or the one so many after it, is under way."""
        number = self.number + depth
        if number not in self._running and self.window(number).share(self.rank, self.layout.num_ranks):
            job = self._job(number)
            self._running[number] = (job, runner.start(job))

    def take(self, runner: Runner[T], epoch: int) -> Taken[T]:
        """This rank's part of the next micro-batch.

        Raises: SourceLostError when a window that was begun before cannot be read to its end.
        """
        if not self.has_more(epoch):
            return Taken(None)
        for depth in range(runner.ahead + 1):
            self.start_ahead(runner, depth)
        job, running = self._running[self.number]
        report = running.report()
        taken: Taken[T] = Taken(None)
        if self.taken == 0:
            taken = Taken(None, report, job.tickets, self._skipped(self.number))
        elif job.first and report.losses:
            name, reason = next(iter(report.losses.items()))
            raise SourceLostError(name, f"{reason}; rows that the run had begun with are there")
        if self.taken < report.num_parts:
            taken = replace(taken, part=running.next_part())
            self.taken += 1
        if self.taken >= report.num_parts:
            self._running.pop(self.number)
            running.close()
            self.number = self.settled(self.rank, self.number + 1, epoch)
            self.taken = 0
        return taken

    def forget_before(self, number: int) -> None:
        """Windows that no rank needs any more."""
        while self._windows and self._windows[0].number < number:
            self._windows.popleft()

    def owe(self, tickets: Iterable[Ticket]) -> None:
        """Draw nothing more from the sources of these tickets, which cannot be reached, until the next epoch or
        attempt; that begins with them."""
        for ticket in tickets:
            name = self._names[ticket.source]
            self._owed.append((ticket, None))
            if not any(absent == name and until is None for absent, _, until in self._absences):
                self._absences.append((name, self._next_number, None))

    def state_dict(self, positions: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """The state of all ranks, which are at these (number, taken)."""
        first = min(number for number, _ in positions)
        self._owed = [(ticket, due) for ticket, due in self._owed if due is None or due >= first]
        self._absences = [absence for absence in self._absences if absence[2] is None or absence[2] > first]
        window = self.window(first)
        return {
            "window": first,
            "digest": window.digest,
            "plan": window.start,
            "positions": [list(position) for position in positions],
            "layout": asdict(self.layout),
            "owed": [{**plain_ticket(ticket, self._names), "due": due} for ticket, due in self._owed],
            "absences": [list(absence) for absence in self._absences],
        }

    def load_state_dict(
        self, state: dict[str, Any], epoch: int, skip: Collection[str], preparation: Preparation
    ) -> list[tuple[int, int]]:
        """Go to a saved position, when rows in `skip` were left out; what is left of windows of another layout is given
        back to the plan, which deals it out anew. Where sources have changed, so that windows in use are no longer what
        they were, their rows come again, and `is_exact` is false. The positions of all ranks.

        Raises: SourceLostError when a source cannot be reached of which a window holds rows.
        """
        first, layout = state["window"], Layout(**state["layout"])
        positions = [(number, taken) for number, taken in state["positions"]]
        self._forget(first)
        self.plan.load_state_dict(state["plan"])
        self._owed = [(ticket, entry["due"]) for ticket, entry in self.plan.tickets_of(state["owed"])]
        self._absences = [(name, begin, end) for name, begin, end in state["absences"]]
        self._last_begun = max(number for number, _ in positions)
        is_begun = any(position != (first, 0) for position in positions)
        self.is_exact = not is_begun or self.window(first, layout).digest == state["digest"]
        if self.is_exact and layout == self.layout and frozenset(skip) == frozenset(self.skip):
            self.number, self.taken = positions[self.rank]
            self.window(max(number for number, _ in positions))
            self._expect_all_back()
            return positions
        self.number = first
        left = self._left_of(layout, positions, epoch, skip, preparation) if self.is_exact else []
        self.plan.load_state_dict(self.window(self.number, layout).start)
        self.plan.give_back(left)
        self._forget(self.number)
        self._expect_all_back()
        return self.begin(epoch)

    def is_open(self, epoch: int, positions: Sequence[tuple[int, int]]) -> bool:
        """Whether any of the ranks, which are at these positions, has something left in an epoch."""
        return any(self.window(number).epoch == epoch for number, _ in positions)

    def close(self) -> None:
        """Drop what is under way."""
        for _, running in self._running.values():
            running.close()
        self._running.clear()

    def _forget(self, next_number: int) -> None:
        """All windows; the next that is planned has this number."""
        self.close()
        self._windows.clear()
        self._next_number = next_number

    def _left_of(
        self,
        layout: Layout,
        positions: Sequence[tuple[int, int]],
        epoch: int,
        skip: Collection[str],
        preparation: Preparation,
    ) -> list[Ticket]:
        """The tickets of an epoch that ranks had begun with, or were about to, when they stopped; afterwards `number`
        is the window that nobody has begun."""
        left: list[Ticket] = []
        last = max(number + (taken > 0) for number, taken in positions)
        while self.number < last and self.window(self.number, layout).epoch == epoch:
            window = self.window(self.number, layout)
            for rank, (number, taken) in enumerate(positions):
                share = window.share(rank, layout.num_ranks)
                if number < self.number or (number == self.number and taken == 0):
                    left += [ticket for ticket in share if not self._is_away(ticket, window.number)]
                elif number == self.number:
                    job = replace(self._job_of(share, window.number, layout, skip), first=taken)
                    left += preparation.remaining(job)
            self.number += 1
        return left

    def _expect_all_back(self) -> None:
        """From the next window on sources that could not be reached are tried again; it begins with what they owe."""
        now = self._next_number
        self.plan.try_all_again()
        self._owed = [(ticket, now if due is None else due) for ticket, due in self._owed]
        self._absences = [(name, begin, now if end is None else end) for name, begin, end in self._absences]

    def _is_away(self, ticket: Ticket, number: int) -> bool:
        """Whether a ticket of a window could not be reached when that was read."""
        return any(owed == ticket and (due is None or due > number) for owed, due in self._owed)

    def _plan_window(self, layout: Layout) -> Window:
        now = self._next_number
        start = self.plan.state_dict()
        for name, begin, end in self._absences:
            if begin <= now and (end is None or now < end):
                self.plan.leave_out(name)
        if self.plan.is_exhausted:
            self.plan.start_epoch()
            if now > self._last_begun:
                self._expect_all_back()
        self.plan.give_back(ticket for ticket, due in self._owed if due == now)
        epoch = self.plan.epoch
        tickets = self.plan.take(layout.window * layout.num_ranks)
        generator = np.random.Generator(np.random.PCG64(self._seed("deal", self._next_number)))
        order = generator.permutation(len(tickets))
        return Window(self._next_number, epoch, tuple(tickets[at] for at in order), start)

    def _job(self, number: int) -> Job:
        share = self.window(number).share(self.rank, self.layout.num_ranks)
        job = self._job_of(share, number, self.layout, self.skip)
        return replace(job, first=self.taken) if number == self.number else job

    def _job_of(self, share: Sequence[Ticket], number: int, layout: Layout, skip: Collection[str]) -> Job:
        wanted = tuple(ticket for ticket in share if self._id(ticket) not in skip and not self._is_away(ticket, number))
        return Job(self.modality, wanted, layout, self._seed("arrange", number))

    def _skipped(self, number: int) -> tuple[str, ...]:
        share = self.window(number).share(self.rank, self.layout.num_ranks)
        return tuple(name for ticket in share if (name := self._id(ticket)) in self.skip)

    def _id(self, ticket: Ticket) -> str:
        return sample_id(self._names[ticket.source], ticket.index)

    def _seed(self, *parts: object) -> int:
        return derive_seed(self.seed, self.modality, *parts)

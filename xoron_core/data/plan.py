"""The plan of one modality: which row comes next, a pure function of seed and position.

Source by weight, row by a shuffle that is a function of (seed, source, round). Shares are kept by smooth weighted
round-robin, so that any stretch of draws is mixed as asked; with weights alike that is round-robin. An epoch ends when
every source is exhausted; an exhausted source, or one that is lost, is left out until then.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from xoron_core.contract.errors import AnotherFormatError, SourceLostError
from xoron_core.data.records import StreamRow, Ticket, derive_seed
from xoron_core.data.shuffle import RowOrder

K = TypeVar("K")


class Feed(ABC):
    """The rows of one source in the plan's order. `number` is the source's among those of the data set, `num_rows` None
    where nobody knows; `quota`: most draws of an epoch, None: as many as there are."""

    def __init__(self, number: int, name: str, weight: float, num_rows: int | None, quota: int | None) -> None:
        self.number = number
        self.name = name
        self.weight = weight
        self.num_rows = num_rows
        self.quota = quota

    @abstractmethod
    def is_open(self) -> bool:
        """Whether this epoch has a row left. Raises: SourceLostError."""

    @abstractmethod
    def next(self) -> Ticket:
        """The next row, where there is one."""

    def restore(self, ticket: Ticket) -> Ticket:
        """A saved ticket, with all that reading it takes. Raises: SourceLostError."""
        return ticket

    @abstractmethod
    def close(self) -> None:
        """Let go of what it reads from."""

    @abstractmethod
    def start_epoch(self) -> None:
        """Go on to the next epoch; what is left of this one, where the source was lost, comes first."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The position, as plain data."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""


class IndexedFeed(Feed):
    """Rows that are read by number. `quota`: draws of an epoch; where it is no multiple of the rows, the next epoch
    goes on with the rows after."""

    def __init__(self, number: int, name: str, weight: float, order: RowOrder, quota: int, seed: int) -> None:
        super().__init__(number, name, weight, order.num_rows, quota)
        self.order = order
        self.seed = seed
        self._quota = quota
        self._at = 0
        self._until = quota

    def is_open(self) -> bool:
        return self._at < self._until

    def next(self) -> Ticket:
        round_, place = divmod(self._at, self.order.num_rows)
        self._at += 1
        index = self.order.row(round_, place)
        return Ticket(self.number, index, derive_seed(self.seed, self.name, round_, index))

    def start_epoch(self) -> None:
        if self._at == self._until:
            self._until += self._quota

    def close(self) -> None:
        """Nothing is open: workers read."""

    def state_dict(self) -> dict[str, Any]:
        return {"at": self._at, "until": self._until}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "until" not in state:
            raise AnotherFormatError(
                f"source {self.name!r} was a stream when this was saved; set its streaming to true"
            )
        self._at, self._until = state["at"], state["until"]


class Plan:
    """Hands out tickets; its state is a few numbers a source."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds = list(feeds)
        self.epoch = 0
        self._credit = dict.fromkeys((feed.name for feed in feeds), 0.0)
        self._returned: deque[Ticket] = deque()
        self._lost: set[str] = set()
        self.losses: list[SourceLostError] = []

    def take(self, count: int) -> list[Ticket]:
        """The next tickets; fewer at the end of the epoch. Streams that were lost meanwhile stand in `losses`."""
        taken: list[Ticket] = []
        while len(taken) < count and self._returned:
            taken.append(self._returned.popleft())
        while len(taken) < count and (feeds := self._open_feeds()):
            name = draw({name: feed.weight for name, feed in feeds.items()}, self._credit)
            taken.append(feeds[name].next())
        return taken

    @property
    def is_exhausted(self) -> bool:
        """Whether the epoch is over."""
        return not self._returned and not self._open_feeds()

    def start_epoch(self) -> None:
        """Go to the next epoch; credits go on, so that shares hold across its border. Lost sources are tried again."""
        self.epoch += 1
        self._lost.clear()
        for feed in self.feeds:
            feed.start_epoch()

    def leave_out(self, name: str) -> None:
        """Draw nothing more from a source in this epoch."""
        self._lost.add(name)

    def try_all_again(self) -> None:
        """Draw from all sources again."""
        self._lost.clear()

    def give_back(self, tickets: Iterable[Ticket]) -> None:
        """Tickets that were not used, to be handed out before others."""
        self._returned.extendleft(reversed(list(tickets)))

    def state_dict(self) -> dict[str, Any]:
        """The position, as plain data."""
        names = {feed.number: feed.name for feed in self.feeds}
        return {
            "epoch": self.epoch,
            "sources": {feed.name: {**feed.state_dict(), "credit": self._credit[feed.name]} for feed in self.feeds},
            "returned": [plain_ticket(ticket, names) for ticket in self._returned],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position. A source that the state does not know starts at its beginning, and what is left of
        one that is gone is gone."""
        self.epoch = state["epoch"]
        self._lost.clear()
        for feed in self.feeds:
            if (saved := state["sources"].get(feed.name)) is not None:
                feed.load_state_dict(saved)
                self._credit[feed.name] = saved["credit"]
        self._returned = deque(ticket for ticket, _ in self.tickets_of(state["returned"]))

    def tickets_of(self, plain: Iterable[dict[str, Any]]) -> list[tuple[Ticket, dict[str, Any]]]:
        """Saved tickets of the sources that are still there, each with its entry. Raises: SourceLostError."""
        feeds = {feed.name: feed for feed in self.feeds}
        known = [(feeds[entry["source"]], entry) for entry in plain if entry["source"] in feeds]
        return [(feed.restore(_ticket_of(entry, feed.number)), entry) for feed, entry in known]

    def _open_feeds(self) -> dict[str, Feed]:
        found: dict[str, Feed] = {}
        for feed in self.feeds:
            if feed.name in self._lost:
                continue
            try:
                if feed.is_open():
                    found[feed.name] = feed
            except SourceLostError as error:
                self.losses.append(error)
                self._lost.add(feed.name)
        return found


def plain_ticket(ticket: Ticket, names: dict[int, str]) -> dict[str, Any]:
    """A ticket as plain data; a stream's without what the row holds."""
    plain: dict[str, Any] = {"source": names[ticket.source], "index": ticket.index, "seed": ticket.seed}
    if ticket.span is not None:
        plain["span"] = list(ticket.span)
    if ticket.row is not None:
        plain |= {"state": dict(ticket.row.state), "at": ticket.row.at}
    return plain


def _ticket_of(plain: dict[str, Any], number: int) -> Ticket:
    span = tuple(plain["span"]) if "span" in plain else None
    row = StreamRow({}, plain["state"], plain["at"]) if "state" in plain else None
    return Ticket(number, plain["index"], plain["seed"], span, row)


def draw(weights: dict[K, float], credit: dict[K, float]) -> K:
    """Smooth weighted round-robin: everyone earns its weight, the richest is drawn and pays the sum."""
    for key, weight in weights.items():
        credit[key] += weight
    chosen = max(weights, key=lambda key: credit[key])
    credit[chosen] -= sum(weights.values())
    return chosen


def quotas(draws: Sequence[int], limit: int | None) -> list[int]:
    """What each gives when all together give `limit` at most: shares in proportion, the largest remainders rounded up,
    and none that has something gives nothing unless there is less than one for each."""
    total = sum(draws)
    if limit is None or total <= limit:
        return list(draws)
    shares = [limit * count // total for count in draws]
    by_remainder = sorted(range(len(draws)), key=lambda at: (-(limit * draws[at] % total), at))
    for at in by_remainder[: limit - sum(shares)]:
        shares[at] += 1
    for at in (at for at, count in enumerate(draws) if count and not shares[at]):
        richest = max(range(len(shares)), key=lambda other: shares[other])
        if shares[richest] > 1:
            shares[richest] -= 1
            shares[at] = 1
    return shares

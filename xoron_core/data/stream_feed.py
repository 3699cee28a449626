"""The plan's way through a stream: window by window, each shuffled in itself, the next read while one is used."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xoron_core.data.plan import Feed
from xoron_core.data.records import StreamRow, Ticket, derive_seed
from xoron_core.data.retry import retried
from xoron_core.data.sources.base import Stream

Rows = list[Mapping[str, Any]]


@dataclass(frozen=True)
class StreamOptions:
    """`window`: rows that are shuffled together; `repeat`: passes of an epoch; `quota`: most draws of one."""

    window: int
    repeat: int
    quota: int | None
    num_retries: int


class StreamFeed(Feed):
    """Rows that come one after the other, of an unknown number. A state tells where the window in use begins."""

    def __init__(
        self, number: int, name: str, weight: float, stream: Stream, options: StreamOptions, seed: int
    ) -> None:
        super().__init__(number, name, weight, None, options.quota)
        self.stream = stream
        self.options = options
        self.seed = seed
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"stream {name}")
        self._ahead: Future[tuple[dict[str, Any], Rows]] | None = None
        self._round = 0  # passes before this one
        self._passes = 0  # of this epoch, done
        self._given = 0  # of this epoch
        self._first = 0  # the window's first row, in its pass
        self._at = 0  # in the window's order
        self._ended = False
        self._state = stream.state_dict()  # where the window begins
        self._rows: Rows | None = None
        self._order: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._fetched: tuple[Mapping[str, Any], Rows] | None = None

    def is_open(self) -> bool:
        if self._ended or (self.quota is not None and self._given >= self.quota):
            return False
        while True:
            if self._rows is None:
                self._use_window()
            assert self._rows is not None
            if self._at < len(self._rows):
                return True
            if len(self._rows) == self.options.window:
                self._first += len(self._rows)
                self._rows, self._at = None, 0
                continue
            self._round += 1
            self._passes += 1
            self._begin_pass()
            if self._passes == self.options.repeat:
                self._ended = True
                return False

    def next(self) -> Ticket:
        assert self._rows is not None
        place = int(self._order[self._at])
        self._at += 1
        self._given += 1
        index = self._first + place
        row = StreamRow(self._rows[place], self._state, place)
        return Ticket(self.number, index, derive_seed(self.seed, self.name, self._round, index), row=row)

    def start_epoch(self) -> None:
        if self._ended or self._given == self.quota:
            self._ended = False
            self._passes = self._given = 0

    def restore(self, ticket: Ticket) -> Ticket:
        """A saved ticket with its row, which is read from its window again."""
        if ticket.row is None:
            return ticket
        if self._fetched is None or self._fetched[0] != ticket.row.state:
            self._drop_ahead()
            self.stream.load_state_dict(dict(ticket.row.state))
            rows = retried(lambda: self.stream.take(self.options.window), self.options.num_retries)
            self._fetched = (ticket.row.state, rows)
            self.stream.load_state_dict(self._state)
            self._rows = None
        return replace(ticket, row=replace(ticket.row, fields=self._fetched[1][ticket.row.at]))

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "passes": self._passes,
            "given": self._given,
            "first": self._first,
            "at": self._at,
            "ended": self._ended,
            "stream": self._state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._drop_ahead()
        self._round, self._passes, self._given = state["round"], state["passes"], state["given"]
        self._first, self._at, self._ended = state["first"], state["at"], state["ended"]
        self._state, self._rows = state["stream"], None
        self.stream.load_state_dict(self._state)

    def close(self) -> None:
        """Let go of the stream."""
        self._drop_ahead()
        self._reader.shutdown()
        self.stream.close()

    def _use_window(self) -> None:
        """Raises: SourceLostError; the next call tries again."""
        if self._ahead is None:
            self._ahead = self._reader.submit(self._read_window)
        ahead, self._ahead = self._ahead, None
        self._state, self._rows = ahead.result()
        order = np.random.Generator(
            np.random.PCG64(derive_seed(self.seed, "order", self.name, self._round, self._first))
        )
        count = len(self._rows)
        self._order = order.permutation(count) if self.options.window > 1 else np.arange(count)
        if count == self.options.window:
            self._ahead = self._reader.submit(self._read_window)

    def _read_window(self) -> tuple[dict[str, Any], Rows]:
        state = self.stream.state_dict()
        return state, retried(lambda: self.stream.take(self.options.window), self.options.num_retries)

    def _begin_pass(self) -> None:
        self._drop_ahead()
        self.stream.rewind()
        self._state = self.stream.state_dict()
        self._first = self._at = 0
        self._rows = None

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.exception()  # wait for the reader to be done with the stream; what it found is read again
            self._ahead = None

"""The plan's way through a stream: window by window, each shuffled in itself, the next read while one is used."""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xoron_core.contract.errors import AnotherFormatError, DataError, SourceLostError
from xoron_core.data.plan import Feed
from xoron_core.data.records import StreamRow, Ticket, derive_seed
from xoron_core.data.retry import retried
from xoron_core.data.sources.base import Stream

Rows = list[Mapping[str, Any]]

Read = tuple[Rows, dict[str, Any]]
"""Rows, and the stream's state after them."""


@dataclass(frozen=True)
class StreamOptions:
    """`window`: rows that are shuffled together; `quota`: draws of an epoch; `repeat`: its passes, where there is none;
    `num_retries`: tries after the first, of a read that is waited for."""

    window: int
    repeat: int
    quota: int | None
    num_retries: int


class StreamFeed(Feed):
    """Rows that come one after the other, of an unknown number.

    An epoch is `quota` draws, however long the stream is: the next epoch goes on with the rows after them, and where a
    pass ends within an epoch, another begins. Without a quota an epoch is `repeat` passes.

    The position is a window, told by the stream's state where it begins, and a place in its order. It moves before a
    window is read, never by the reading: where a stream is lost, nothing is.
    """

    def __init__(
        self, number: int, name: str, weight: float, stream: Stream, options: StreamOptions, seed: int
    ) -> None:
        super().__init__(number, name, weight, None, options.quota)
        self.stream = stream
        self.options = options
        self.seed = seed
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"stream {name}")
        self._ahead: Future[Read] | None = None
        self._round = 0  # passes before this one
        self._passes = 0  # that ended in this epoch
        self._given = 0  # in this epoch
        self._state = stream.state_dict()  # where the window begins
        self._first = 0  # its first row, in its pass
        self._at = 0  # in its order
        self._rows: Rows | None = None  # None: not read; the stream, or the read ahead, is where it begins
        self._order: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._after = self._state  # where the next window begins
        self._fetched: dict[str, Rows] = {}  # windows of the tickets that are being restored, by their states

    def is_open(self) -> bool:
        while not self._is_over():
            rows = self._window_rows()
            if self._at < len(rows):
                return True
            if len(rows) == self.options.window:
                self._state, self._first = self._after, self._first + len(rows)
            else:
                self._begin_pass()
            self._rows, self._at = None, 0
        return False

    def next(self) -> Ticket:
        assert self._rows is not None
        self._fetched.clear()
        place = int(self._order[self._at])
        self._at += 1
        self._given += 1
        index = self._first + place
        row = StreamRow(self._rows[place], self._state, place)
        return Ticket(self.number, index, derive_seed(self.seed, self.name, self._round, index), row=row)

    def start_epoch(self) -> None:
        if self._is_over():
            self._passes = self._given = 0

    def restore(self, ticket: Ticket) -> Ticket:
        """A saved ticket with its row. Tickets of one window read it once, up to the next draw.

        Raises: SourceLostError; DataError when the row is not where it was.
        """
        if ticket.row is None:
            return ticket
        key = json.dumps(ticket.row.state, sort_keys=True)
        if key not in self._fetched:
            self._fetched[key] = self._fetch(ticket.row.state)
        rows, at = self._fetched[key], ticket.row.at
        if at >= len(rows):
            reason = (
                f"is wanted again, as row {at} of its window, and only {len(rows)} rows came; bring back what the "
                "stream was and the data.stream_window that it was read with, or start anew"
            )
            raise DataError(self.name, ticket.index, reason)
        return replace(ticket, row=replace(ticket.row, fields=rows[at]))

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "passes": self._passes,
            "given": self._given,
            "first": self._first,
            "at": self._at,
            "stream": self._state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "round" not in state:
            raise AnotherFormatError(
                f"source {self.name!r} was no stream when this was saved; set its streaming to false"
            )
        self._round, self._passes, self._given = state["round"], state["passes"], state["given"]
        self._state, self._first, self._at = state["stream"], state["first"], state["at"]
        self._fetched.clear()
        self._go_back()

    def close(self) -> None:
        """Let go of the stream. Waits for a read under way, as the end of the process would; none is tried again."""
        self._reader.shutdown()
        self.stream.close()

    def _is_over(self) -> bool:
        if self.quota is None:
            return self._passes >= self.options.repeat
        return self._given >= self.quota

    def _begin_pass(self) -> None:
        self.stream.rewind()  # nothing is being read: the window was the last
        self._state, self._first = self.stream.state_dict(), 0
        self._round += 1
        self._passes += 1

    def _window_rows(self) -> Rows:
        """The rows of the window, which is read where it is not there yet.

        Raises: SourceLostError, also when a pass has no row; the next call tries again.
        """
        if self._rows is None:
            rows, after = self._awaited()
            if not rows and self._first == 0:
                self._go_back()
                raise SourceLostError(self.name, "it has no rows; see that path, config and split are right")
            seed = derive_seed(self.seed, "order", self.name, self._round, self._first)
            in_order = self.options.window == 1
            count = len(rows)
            self._order = (
                np.arange(count) if in_order else np.random.Generator(np.random.PCG64(seed)).permutation(count)
            )
            self._rows, self._after = rows, after
            if count == self.options.window:
                self._ahead = self._reader.submit(self._read)
        return self._rows

    def _awaited(self) -> Read:
        """What was read ahead; where that failed it is read here, with time for the stream to come back."""
        if self._ahead is not None:
            error = self._ahead.exception()
            ahead, self._ahead = self._ahead, None
            if error is None:
                return ahead.result()
        return retried(self._read, self.options.num_retries)

    def _read(self) -> Read:
        return self.stream.take(self.options.window), self.stream.state_dict()

    def _fetch(self, state: Mapping[str, Any]) -> Rows:
        """The window that begins at a state. Raises: SourceLostError."""
        self._wait_for_reader()
        self.stream.load_state_dict(dict(state))
        try:
            rows, _ = retried(self._read, self.options.num_retries)
        finally:
            self._go_back()
        return rows

    def _go_back(self) -> None:
        """To where the window begins, which is to be read."""
        self._wait_for_reader()
        self.stream.load_state_dict(self._state)
        self._rows = None

    def _wait_for_reader(self) -> None:
        """What it found is read again when it is wanted."""
        if self._ahead is not None:
            self._ahead.exception()
            self._ahead = None

"""A stream's rows in the plan's order: all of them once a pass, exact resume, and a stream that goes away."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT
from support.word_rows import ROW_LENGTH, Documents

from xoron_core.contract.config.data import DataConfig, SourceConfig
from xoron_core.contract.errors import ConfigError, DataError, SourceLostError
from xoron_core.data.dataset import TrueStreamingDataset
from xoron_core.data.estimate import estimate_epoch
from xoron_core.data.plan import Plan
from xoron_core.data.records import Ticket
from xoron_core.data.sources.base import Stream
from xoron_core.data.stream_feed import StreamFeed, StreamOptions

Draw = tuple[int, int, Mapping[str, Any]]
"""The index and the seed of a ticket, and its row."""


class Numbers(Stream):
    """Rows `{"n": 0}`, `{"n": 1}` …; cannot be reached at the takes whose numbers are in `lost_at`. At its end it stays
    there until it is sent elsewhere, as an iterator does."""

    name = "numbers"

    def __init__(self, num_rows: int, lost_at: Sequence[int] = ()) -> None:
        self.num_rows = num_rows
        self.lost_at = set(lost_at)
        self.takes: list[int] = []  # where each began
        self.is_read_ahead = threading.Event()
        self.is_closed = False
        self._at = 0
        self._is_at_end = False

    def take(self, count: int) -> list[Mapping[str, Any]]:
        self.takes.append(self._at)
        if len(self.takes) == 2:
            self.is_read_ahead.set()
        if len(self.takes) - 1 in self.lost_at:
            raise SourceLostError(self.name, "gone")
        if self._is_at_end:
            return []
        rows: list[Mapping[str, Any]] = [{"n": at} for at in range(self._at, min(self._at + count, self.num_rows))]
        self._at += len(rows)
        self._is_at_end = len(rows) < count
        return rows

    def rewind(self) -> None:
        self.load_state_dict({"next": {"row": 0}})

    def state_dict(self) -> dict[str, Any]:
        return {"next": {"row": self._at}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._at = state["next"]["row"]
        self._is_at_end = False

    def close(self) -> None:
        self.is_closed = True


def feed_of(
    stream: Stream, window: int = 4, quota: int | None = None, repeat: int = 1, num_retries: int = 0
) -> StreamFeed:
    return StreamFeed(3, "numbers", 1.0, stream, StreamOptions(window, repeat, quota, num_retries), seed=5)


def tickets(feed: StreamFeed) -> Iterator[Ticket]:
    """Of this epoch."""
    while feed.is_open():
        yield feed.next()


def endless(feed: StreamFeed) -> Iterator[Ticket]:
    """Of epoch after epoch."""
    while True:
        yield from tickets(feed)
        feed.start_epoch()


def draw_of(ticket: Ticket) -> Draw:
    assert ticket.row is not None
    return ticket.index, ticket.seed, ticket.row.fields


def passes(num_rows: int, window: int, count: int) -> list[Draw]:
    """The first so many draws."""
    with closing(feed_of(Numbers(num_rows), window)) as feed:
        return [draw_of(ticket) for ticket in islice(endless(feed), count)]


def saved(feed: StreamFeed) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(json.dumps(feed.state_dict()))
    return state


num_rows_ = st.integers(1, 12)
windows = st.integers(1, 7)
quotas = st.none() | st.integers(1, 30)
repeats = st.integers(1, 3)


@PATIENT
@given(num_rows_, windows, repeats)
def test_an_epoch_without_a_quota_has_every_row_once_a_pass(num_rows: int, window: int, repeat: int) -> None:
    with closing(feed_of(Numbers(num_rows), window, repeat=repeat)) as feed:
        found = []
        for _ in range(2):
            epoch = [draw_of(ticket) for ticket in tickets(feed)]
            assert len(epoch) == repeat * num_rows
            found += epoch
            feed.start_epoch()
    for first in range(0, len(found), num_rows):
        assert sorted(index for index, _, _ in found[first : first + num_rows]) == list(range(num_rows))
    assert all(row == {"n": index} for index, _, row in found)
    assert len({seed for _, seed, _ in found}) == len(found)


@PATIENT
@given(num_rows_, windows, st.integers(1, 30), repeats)
def test_an_epoch_with_a_quota_has_that_many_and_goes_on_with_the_rows_after(
    num_rows: int, window: int, quota: int, repeat: int
) -> None:
    with closing(feed_of(Numbers(num_rows), window, quota, repeat)) as feed:
        found = []
        for _ in range(3):
            epoch = [draw_of(ticket) for ticket in tickets(feed)]
            assert len(epoch) == quota
            found += epoch
            feed.start_epoch()
    assert found == passes(num_rows, window, 3 * quota)


def test_rows_are_shuffled_within_windows_and_each_pass_anew() -> None:
    found = [index for index, _, _ in passes(64, 32, 128)]
    assert sorted(found[:32]) == list(range(32))
    assert found[:32] != list(range(32))
    assert found[:64] != found[64:]
    assert [index for index, _, _ in passes(64, 1, 64)] == list(range(64))


@PATIENT
@given(num_rows_, windows, quotas, repeats, st.integers(0, 40), st.booleans())
def test_it_resumes_exactly(
    num_rows: int, window: int, quota: int | None, repeat: int, stop: int, is_asked: bool
) -> None:
    with closing(feed_of(Numbers(num_rows), window, quota, repeat)) as feed:
        list(islice(endless(feed), stop))
        if is_asked:
            feed.is_open()
        state = saved(feed)
        rest_of_epoch = [draw_of(ticket) for ticket in tickets(feed)]
        feed.start_epoch()
        rest = [draw_of(ticket) for ticket in islice(endless(feed), 20)]
    with closing(feed_of(Numbers(num_rows), window, quota, repeat)) as resumed:
        resumed.load_state_dict(state)
        assert [draw_of(ticket) for ticket in tickets(resumed)] == rest_of_epoch
        resumed.start_epoch()
        assert [draw_of(ticket) for ticket in islice(endless(resumed), 20)] == rest


@PATIENT
@given(
    num_rows_,
    windows,
    quotas,
    st.sets(st.integers(0, 25), max_size=12),
    st.lists(st.sampled_from(["ask again", "next epoch", "resume"]), min_size=30, max_size=30),
)
def test_a_stream_that_is_lost_and_back_loses_and_repeats_nothing(
    num_rows: int, window: int, quota: int | None, lost_at: set[int], reactions: list[str]
) -> None:
    stream = Numbers(num_rows, sorted(lost_at))
    feed = feed_of(stream, window, quota)
    found: list[Draw] = []
    while len(found) < 40:
        try:
            if feed.is_open():
                found.append(draw_of(feed.next()))
            else:
                feed.start_epoch()
        except SourceLostError:
            match reactions.pop():
                case "next epoch":
                    feed.start_epoch()
                case "resume":
                    state = saved(feed)
                    feed.close()
                    feed = feed_of(stream, window, quota)
                    feed.load_state_dict(state)
    feed.close()
    assert found == passes(num_rows, window, 40)


def test_what_is_left_of_an_epoch_where_it_was_lost_comes_first() -> None:
    stream = Numbers(10, lost_at=[1, 2])
    with closing(feed_of(stream, 4, quota=6)) as feed:
        with pytest.raises(SourceLostError):
            list(tickets(feed))
        feed.start_epoch()
        assert len(list(tickets(feed))) == 2
        feed.start_epoch()
        assert len(list(tickets(feed))) == 6


@PATIENT
@given(num_rows_, windows, quotas, st.integers(1, 30), st.randoms(use_true_random=False))
def test_tickets_that_were_given_back_come_first_and_read_each_window_once(
    num_rows: int, window: int, quota: int | None, count: int, random: Any
) -> None:
    with closing(feed_of(Numbers(num_rows), window, quota)) as feed:
        plan = Plan([feed])
        taken = plan.take(count)
        random.shuffle(taken)
        plan.give_back(taken)
        state = json.loads(json.dumps(plan.state_dict()))
        wanted = [draw_of(ticket) for ticket in [*taken, *tickets(feed)]]
    stream = Numbers(num_rows)
    with closing(feed_of(stream, window, quota)) as resumed:
        plan = Plan([resumed])
        plan.load_state_dict(state)
        assert sorted(stream.takes) == sorted({ticket.index // window * window for ticket in taken})
        assert [draw_of(ticket) for ticket in plan.take(1000)] == wanted


def test_rows_of_a_load_are_let_go_with_the_next_draw() -> None:
    stream = Numbers(12)
    with closing(feed_of(stream, 6)) as feed:
        ticket = next(tickets(feed))
        assert stream.is_read_ahead.wait(10)
        restored = [feed.restore(ticket), feed.restore(ticket)]
        assert [draw_of(each) for each in restored] == [draw_of(ticket)] * 2
        assert stream.takes == [0, 6, 0]
        rest = list(tickets(feed))
        before = len(stream.takes)
        feed.restore(ticket)
        assert len(stream.takes) == before + 1
        assert [draw_of(each) for each in [ticket, *rest]] == passes(12, 6, 12)


def test_a_stream_that_is_lost_at_a_restore_keeps_its_place() -> None:
    stream = Numbers(12, lost_at=[2])
    with closing(feed_of(stream, 4)) as feed:
        first = next(tickets(feed))
        assert stream.is_read_ahead.wait(10)
        with pytest.raises(SourceLostError):
            feed.restore(first)
        assert [draw_of(each) for each in [first, *tickets(feed)]] == passes(12, 4, 12)


class Slow(Numbers):
    """Takes a while to read ahead, and tells whether it was sent elsewhere meanwhile."""

    was_disturbed = False

    def __init__(self) -> None:
        super().__init__(12)
        self.is_reading = threading.Event()
        self._is_sent = threading.Event()

    def take(self, count: int) -> list[Mapping[str, Any]]:
        if len(self.takes) == 1 and not self.is_reading.is_set():
            self.is_reading.set()
            self.was_disturbed = self._is_sent.wait(0.2)
        return super().take(count)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._is_sent.set()
        super().load_state_dict(state)


@pytest.mark.parametrize("is_restored", [True, False])
def test_a_stream_that_is_being_read_is_not_sent_elsewhere(is_restored: bool) -> None:
    stream = Slow()
    with closing(feed_of(stream)) as feed:
        state = saved(feed)
        first = next(tickets(feed))
        assert stream.is_reading.wait(10)
        if is_restored:
            feed.restore(first)
        else:
            feed.load_state_dict(state)
            feed.is_open()
    assert not stream.was_disturbed


def test_a_row_that_is_no_longer_where_it_was_is_told() -> None:
    with closing(feed_of(Numbers(8), 8)) as feed:
        last = max(tickets(feed), key=lambda ticket: ticket.index)
    with closing(feed_of(Numbers(5), 8)) as feed:
        with pytest.raises(DataError, match=r"numbers\[7\]: .*row 7 of its window, and only 5 rows came.*start anew"):
            feed.restore(last)
        assert [draw_of(ticket) for ticket in tickets(feed)] == passes(5, 8, 5)


def test_a_quota_that_was_lowered_below_what_was_given_ends_the_epoch_only() -> None:
    with closing(feed_of(Numbers(20), quota=9)) as feed:
        list(islice(tickets(feed), 7))
        state = saved(feed)
    with closing(feed_of(Numbers(20), quota=5)) as feed:
        feed.load_state_dict(state)
        assert not feed.is_open()
        feed.start_epoch()
        assert [draw_of(ticket) for ticket in tickets(feed)] == passes(20, 4, 12)[7:]


def test_fewer_passes_than_were_given_end_the_epoch_only() -> None:
    with closing(feed_of(Numbers(3), repeat=4)) as feed:
        list(islice(tickets(feed), 8))
        state = saved(feed)
    with closing(feed_of(Numbers(3), repeat=1)) as feed:
        feed.load_state_dict(state)
        assert not feed.is_open()
        feed.start_epoch()
        assert [draw_of(ticket) for ticket in tickets(feed)] == passes(3, 4, 9)[8:]


@pytest.mark.parametrize("quota", [None, 5])
def test_a_stream_without_rows_counts_as_lost_until_it_has_some(quota: int | None) -> None:
    stream = Numbers(0)
    with closing(feed_of(stream, quota=quota)) as feed:
        for _ in range(2):
            with pytest.raises(SourceLostError, match="it has no rows; see that path"):
                feed.is_open()
            feed.start_epoch()
        stream.num_rows = 5
        assert [draw_of(ticket) for ticket in tickets(feed)] == passes(5, 4, 5)


def test_a_stream_that_became_shorter_ends_its_pass() -> None:
    with closing(feed_of(Numbers(20))) as feed:
        list(islice(tickets(feed), 14))
        state = saved(feed)
    with closing(feed_of(Numbers(6))) as feed:
        feed.load_state_dict(state)
        assert not feed.is_open()
        feed.start_epoch()
        assert sorted(ticket.index for ticket in tickets(feed)) == list(range(6))


def test_the_next_window_is_read_while_one_is_used() -> None:
    stream = Numbers(12)
    with closing(feed_of(stream)) as feed:
        assert feed.is_open()
        assert stream.is_read_ahead.wait(10)


def test_what_nobody_waits_for_is_not_tried_again() -> None:
    stream = Numbers(12, lost_at=range(1, 9))
    feed = feed_of(stream, num_retries=2)
    assert feed.is_open()
    feed.close()
    assert stream.takes == [0, 4]
    assert stream.is_closed


def estimate_of_stream(folder: Path, documents: Documents, quota: int | None) -> int:
    """Of a data set whose only source is a stream."""
    (folder / "train.jsonl").write_text('{"length": 1}\n', encoding="utf-8")
    source = SourceConfig(name="numbers", category="lengths", path=str(folder))
    dataset = TrueStreamingDataset([(source, "text")], {"text": documents}, {"text": 1.0}, 0, DataConfig())
    with closing(dataset), closing(feed_of(Numbers(9), quota=quota)) as feed:
        dataset.feeds["text"] = [feed]
        return estimate_epoch(dataset)


@pytest.mark.parametrize(
    ("documents", "quota"),
    [
        (Documents("text", 2, ROW_LENGTH), 7),
        (Documents("text", 2, None), 7),
        (Documents("text", 1, None, batch_tokens=9), 7),
        (Documents("text", 1, None), None),
    ],
)
def test_an_epoch_of_a_stream_cannot_be_estimated(tmp_path: Path, documents: Documents, quota: int | None) -> None:
    with pytest.raises(ConfigError, match=r"training\.max_steps: source 'numbers' does not tell how many rows it has"):
        estimate_of_stream(tmp_path, documents, quota)


def test_but_where_each_of_its_rows_is_a_micro_batch(tmp_path: Path) -> None:
    assert estimate_of_stream(tmp_path, Documents("text", 1, None), 7) == 7

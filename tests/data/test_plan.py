"""The plan of a modality: what is drawn when, once an epoch, in the shares asked for, the same after a resume."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.data.plan import IndexedFeed, Plan, draw, quotas
from xoron_core.data.records import Ticket
from xoron_core.data.shuffle import RowOrder

SHARES = st.floats(0.05, 20.0)


@dataclass(frozen=True)
class Planned:
    """A source: rows, repeats, weight, draws of an epoch (None: all), rows that are shuffled together."""

    name: str
    num_rows: int
    repeat: int = 1
    weight: float = 1.0
    quota: int | None = None
    window: int = 65_536

    @property
    def num_draws(self) -> int:
        return self.num_rows * self.repeat if self.quota is None else self.quota


def plan_of(sources: Sequence[Planned], seed: int = 5) -> Plan:
    feeds = []
    for number, source in enumerate(sources):
        order = RowOrder(seed, source.name, source.num_rows, (0,), source.window)
        feeds.append(IndexedFeed(number, source.name, source.weight, order, source.num_draws, seed))
    return Plan(feeds)


@st.composite
def planned(draw: st.DrawFn, max_rows: int = 9) -> list[Planned]:
    return [
        Planned(
            f"s{number}",
            draw(st.integers(1, max_rows)),
            draw(st.integers(1, 3)),
            draw(SHARES),
            window=draw(st.integers(1, 12)),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


def draws(plan: Plan) -> Iterator[Ticket]:
    """Tickets without end, epoch after epoch."""
    while True:
        if plan.is_exhausted:
            plan.start_epoch()
        yield from plan.take(1)


def one_epoch(plan: Plan) -> list[Ticket]:
    if plan.is_exhausted:
        plan.start_epoch()
    return plan.take(10**9)


@PATIENT
@given(planned())
def test_an_epoch_has_every_row_as_often_as_it_repeats(sources: list[Planned]) -> None:
    plan = plan_of(sources)
    for epoch in range(3):
        tickets = one_epoch(plan)
        assert plan.epoch == epoch
        drawn = Counter((ticket.source, ticket.index) for ticket in tickets)
        assert drawn == {
            (number, row): source.repeat for number, source in enumerate(sources) for row in range(source.num_rows)
        }
        assert len({ticket.seed for ticket in tickets}) == len(tickets)


@PATIENT
@given(planned())
def test_a_source_gives_all_its_rows_before_it_repeats_one(sources: list[Planned]) -> None:
    tickets = one_epoch(plan_of(sources))
    for number, source in enumerate(sources):
        rows = [ticket.index for ticket in tickets if ticket.source == number]
        for start in range(0, source.num_draws, source.num_rows):
            assert sorted(rows[start : start + source.num_rows]) == list(range(source.num_rows))


@PATIENT
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 4))
def test_with_a_limit_epochs_go_on_through_all_rows(num_rows: int, quota: int, num_epochs: int) -> None:
    plan = plan_of([Planned("a", num_rows, quota=quota)])
    found = [one_epoch(plan) for _ in range(num_epochs)]
    assert [len(tickets) for tickets in found] == [quota] * num_epochs
    rows = [ticket.index for tickets in found for ticket in tickets]
    for start in range(0, len(rows) - num_rows + 1, num_rows):
        assert sorted(rows[start : start + num_rows]) == list(range(num_rows))


@settings(PATIENT, max_examples=50)
@given(st.dictionaries(st.sampled_from("abcdef"), SHARES, min_size=1), st.integers(1, 400))
def test_shares_are_kept_in_every_beginning(shares: dict[str, float], num_draws: int) -> None:
    plan = plan_of([Planned(name, 1000, weight=share) for name, share in shares.items()])
    counts = Counter(plan.feeds[ticket.source].name for ticket in islice(draws(plan), num_draws))
    for name, share in shares.items():
        ahead = counts[name] - num_draws * share / sum(shares.values())
        assert -len(shares) < ahead < 1 + 1e-6, name


@settings(PATIENT, max_examples=50)
@given(planned(max_rows=6), st.integers(1, 6))
def test_shares_hold_again_in_an_epoch_after_sources_ran_dry(sources: list[Planned], num_epochs: int) -> None:
    plan = plan_of(sources)
    for _ in range(num_epochs):
        one_epoch(plan)
    state = plan.state_dict()
    many = plan_of([Planned(source.name, 1000, source.repeat, source.weight) for source in sources])
    for saved in state["sources"].values():
        saved |= {"at": 0, "until": 1000}
    many.load_state_dict(state)
    counts = Counter(ticket.source for ticket in many.take(200))
    for number, source in enumerate(sources):
        expected = 200 * source.weight / sum(other.weight for other in sources)
        assert abs(counts[number] - expected) <= 2 * len(sources)


def test_the_heavier_is_spread_out_and_not_drawn_in_a_block() -> None:
    credit = {"a": 0.0, "b": 0.0}
    assert "".join(draw({"a": 3.0, "b": 1.0}, credit) for _ in range(8)) == "aabaaaba"


def test_weights_alike_are_round_robin() -> None:
    plan = plan_of([Planned(name, 4) for name in "abc"])
    assert [ticket.source for ticket in plan.take(9)] == [0, 1, 2] * 3


def test_what_is_exhausted_is_left_out_and_the_rest_keeps_its_shares() -> None:
    tickets = one_epoch(plan_of([Planned("short", 2), Planned("once", 30), Planned("thrice", 90, weight=3.0)]))
    later = Counter(ticket.source for ticket in tickets[20:100])
    assert set(later) == {1, 2}
    assert abs(later[2] - 60) <= 1


@settings(PATIENT, max_examples=50)
@given(planned(), st.integers(0, 60))
def test_a_saved_position_goes_on_identically(sources: list[Planned], position: int) -> None:
    plan = plan_of(sources)
    uninterrupted = draws(plan)
    list(islice(uninterrupted, position))
    saved = json.dumps(plan.state_dict(), sort_keys=True)
    expected = list(islice(uninterrupted, 80))

    fresh, used = plan_of(sources), plan_of(sources)
    list(islice(draws(used), 7))  # what a plan did before must not matter
    for other in (fresh, used):
        other.load_state_dict(json.loads(saved))
        assert json.dumps(other.state_dict(), sort_keys=True) == saved
        assert list(islice(draws(other), 80)) == expected


@PATIENT
@given(planned())
def test_a_saved_position_does_not_change_afterwards(sources: list[Planned]) -> None:
    plan = plan_of(sources)
    state = plan.state_dict()
    saved = json.dumps(state)
    list(islice(draws(plan), 20))
    assert json.dumps(state) == saved


def test_what_is_given_back_comes_first_and_survives_a_checkpoint() -> None:
    plan = plan_of([Planned("a", 10)])
    first = plan.take(4)
    plan.give_back(first[1:3])
    resumed = plan_of([Planned("a", 10)])
    resumed.load_state_dict(json.loads(json.dumps(plan.state_dict())))
    for other in (plan, resumed):
        tickets = one_epoch(other)
        assert tickets[:2] == first[1:3]
        assert sorted(ticket.index for ticket in [first[0], *tickets, first[3]]) == list(range(10))


def test_a_lost_source_keeps_its_place_and_gives_the_rest_in_the_next_epoch() -> None:
    plan = plan_of([Planned("lost", 6), Planned("there", 6)])
    before = plan.take(4)
    plan.leave_out("lost")
    rest = plan.take(100)
    assert {ticket.source for ticket in rest} == {1}
    assert plan.is_exhausted
    plan.start_epoch()
    following = plan.take(100)
    lost = [ticket.index for ticket in [*before, *following] if ticket.source == 0]
    assert sorted(lost) == list(range(6))
    assert len([ticket for ticket in following if ticket.source == 1]) == 6


def test_a_new_source_starts_at_its_beginning_and_the_others_go_on() -> None:
    old = plan_of([Planned("a", 10)])
    begun = [ticket.index for ticket in old.take(4)]
    new = plan_of([Planned("b", 5), Planned("a", 10)])
    new.load_state_dict(old.state_dict())
    rest = one_epoch(new)
    rows = [[ticket.index for ticket in rest if ticket.source == number] for number in (0, 1)]
    assert sorted(begun + rows[1]) == list(range(10))
    assert sorted(rows[0]) == list(range(5))


def test_seeds_epochs_and_repeats_each_shuffle_anew() -> None:
    plan = plan_of([Planned("a", 50, 2)])
    rows = [[ticket.index for ticket in one_epoch(plan)] for _ in range(2)]
    orders = [rows[0][:50], rows[0][50:], rows[1][:50]]
    orders.append([ticket.index for ticket in plan_of([Planned("a", 50, 2)], seed=6).take(50)])
    orders.append([*range(50)])
    assert len({tuple(order) for order in orders}) == len(orders)


def test_two_sources_of_one_size_are_shuffled_differently() -> None:
    tickets = one_epoch(plan_of([Planned("a", 50), Planned("b", 50)]))
    first, second = ([ticket.index for ticket in tickets if ticket.source == number] for number in (0, 1))
    assert first != second


def test_the_randomness_of_a_row_differs_by_epoch_and_repeat_and_seed() -> None:
    seeds = set()
    for seed in (5, 6):
        plan = plan_of([Planned("a", 1, 3)], seed)
        seeds |= {ticket.seed for _ in range(2) for ticket in one_epoch(plan)}
    assert len(seeds) == 12


def test_the_order_never_changes_between_versions() -> None:
    """A run that was stopped under an older version resumes on the order that it began with."""
    rows = [ticket.index for ticket in one_epoch(plan_of([Planned("a", 12, window=5)]))]
    assert rows == [8, 5, 9, 6, 7, 10, 11, 4, 0, 3, 2, 1]


@PATIENT
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.none() | st.integers(1, 200))
@example([1, 0, 1, 3], 3)
def test_quotas_are_exact_and_in_proportion(draws: list[int], limit: int | None) -> None:
    shares = quotas(draws, limit)
    total = sum(draws)
    assert sum(shares) == (total if limit is None else min(total, limit))
    for share, count in zip(shares, draws, strict=True):
        assert 0 <= share <= count
        if limit is not None and limit < total:
            assert abs(share - limit * count / total) <= len(draws)
    given = [share for share, count in zip(shares, draws, strict=True) if count]
    if limit is None or limit >= len(given):
        assert all(given)

"""The plan: what is drawn when, exactly once an epoch, in the shares asked for, and the same again after a resume."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.data.plan import Plan, PlannedSource
from xoron_core.data.records import Ticket

SHARES = st.floats(0.05, 20.0)


@st.composite
def plans(draw: st.DrawFn, max_rows: int = 9) -> Plan:
    """Up to three modalities with up to three sources each."""
    sources, weights = [], {}
    for modality in draw(st.sampled_from([["text"], ["text", "image"], ["text", "image", "video"]])):
        weights[modality] = draw(SHARES)
        for number in range(draw(st.integers(1, 3))):
            rows, repeat = draw(st.integers(1, max_rows)), draw(st.integers(1, 3))
            sources.append(PlannedSource(f"{modality}-{number}", modality, draw(SHARES), rows, repeat))
    return Plan(sources, weights, draw(st.integers(0, 2**32)))


def like(plan: Plan) -> Plan:
    return Plan(plan.sources, plan.weights, plan.seed)


def draws(plan: Plan) -> Iterator[Ticket]:
    """Tickets without end, epoch after epoch."""
    while True:
        if plan.is_exhausted:
            plan.start_epoch(plan.epoch + 1)
        yield plan.next_ticket(plan.next_modality())


def one_epoch(plan: Plan) -> list[Ticket]:
    tickets = []
    while not plan.is_exhausted:
        tickets.append(plan.next_ticket(plan.next_modality()))
    return tickets


def one_source(num_rows: int, repeat: int = 1, seed: int = 5) -> Plan:
    return Plan([PlannedSource("a", "text", 1.0, num_rows, repeat)], {"text": 1.0}, seed)


def rows_of_epoch(plan: Plan, epoch: int) -> list[int]:
    plan.start_epoch(epoch)
    return [ticket.index for ticket in one_epoch(plan)]


@PATIENT
@given(plans())
def test_an_epoch_has_every_row_as_often_as_it_repeats(plan: Plan) -> None:
    for epoch in range(3):
        plan.start_epoch(epoch)
        tickets = one_epoch(plan)
        drawn = Counter((ticket.source, ticket.index) for ticket in tickets)
        assert drawn == {
            (number, row): source.repeat for number, source in enumerate(plan.sources) for row in range(source.num_rows)
        }
        assert all(plan.sources[ticket.source].modality == ticket.modality for ticket in tickets)
        assert len({ticket.seed for ticket in tickets}) == len(tickets)


@PATIENT
@given(plans())
def test_a_source_gives_all_its_rows_before_it_repeats_one(plan: Plan) -> None:
    tickets = one_epoch(plan)
    for number, source in enumerate(plan.sources):
        rows = [ticket.index for ticket in tickets if ticket.source == number]
        for start in range(0, source.num_draws, source.num_rows):
            assert sorted(rows[start : start + source.num_rows]) == list(range(source.num_rows))


@settings(PATIENT, max_examples=50)
@given(st.dictionaries(st.sampled_from("abcdef"), SHARES, min_size=1), st.integers(1, 400))
def test_shares_are_kept_in_every_beginning(shares: dict[str, float], num_draws: int) -> None:
    by_modality = Plan([PlannedSource(name, name, 1.0, 1000) for name in shares], shares, 0)
    by_source = Plan([PlannedSource(name, "text", share, 1000) for name, share in shares.items()], {"text": 1.0}, 0)
    for plan in (by_modality, by_source):
        counts = Counter(plan.sources[ticket.source].name for ticket in islice(draws(plan), num_draws))
        for name, share in shares.items():
            ahead = counts[name] - num_draws * share / sum(shares.values())
            assert -len(shares) < ahead < 1 + 1e-6, name


@settings(PATIENT, max_examples=50)
@given(plans(max_rows=6), st.integers(1, 12))
def test_shares_hold_again_in_an_epoch_after_sources_ran_dry(plan: Plan, num_epochs: int) -> None:
    for epoch in range(num_epochs):
        plan.start_epoch(epoch)
        one_epoch(plan)
    plan.sources = [
        PlannedSource(source.name, source.modality, source.weight, 1000, source.repeat) for source in plan.sources
    ]
    plan.start_epoch(num_epochs)
    counts = Counter(ticket.modality for ticket in islice(draws(plan), 200))
    for modality, weight in plan.weights.items():
        assert abs(counts[modality] - 200 * weight / sum(plan.weights.values())) <= 2 * len(plan.sources)


def test_the_heavier_is_spread_out_and_not_drawn_in_a_block() -> None:
    plan = Plan([PlannedSource(name, name, 1.0, 100) for name in "ab"], {"a": 3.0, "b": 1.0}, 0)
    assert "".join(plan.next_modality() for _ in range(8)) == "aabaaaba"


def test_what_is_exhausted_is_left_out_and_the_rest_keeps_its_shares() -> None:
    sources = [
        PlannedSource("short", "text", 1.0, 2),
        PlannedSource("once", "text", 1.0, 30),
        PlannedSource("thrice", "text", 3.0, 90),
        PlannedSource("picture", "image", 1.0, 1),
    ]
    plan = Plan(sources, {"text": 1.0, "image": 5.0}, 0)
    tickets = one_epoch(plan)
    assert [ticket.modality for ticket in tickets].index("image") == 0
    assert not plan.has_rows("image")
    assert not plan.has_rows("text")
    later = Counter(sources[ticket.source].name for ticket in tickets[20:100])
    assert set(later) == {"once", "thrice"}
    assert abs(later["thrice"] - 60) <= 1


@settings(PATIENT, max_examples=50)
@given(plans(), st.integers(0, 120))
def test_a_saved_position_goes_on_identically(plan: Plan, position: int) -> None:
    uninterrupted = draws(plan)
    list(islice(uninterrupted, position))
    saved = json.dumps(plan.state_dict(), sort_keys=True)
    expected = list(islice(uninterrupted, 150))

    fresh, used = like(plan), like(plan)
    list(islice(draws(used), 7))  # what a plan did before must not matter
    for other in (fresh, used):
        other.load_state_dict(json.loads(saved))
        assert json.dumps(other.state_dict(), sort_keys=True) == saved
        assert list(islice(draws(other), 150)) == expected


@PATIENT
@given(plans())
def test_a_saved_position_does_not_change_afterwards(plan: Plan) -> None:
    state = plan.state_dict()
    saved = json.dumps(state)
    list(islice(draws(plan), 20))
    assert json.dumps(state) == saved


def test_a_new_source_starts_at_its_beginning_and_the_others_go_on() -> None:
    old = Plan([PlannedSource("a", "text", 1.0, 10)], {"text": 1.0}, 0)
    begun = [old.next_ticket("text").index for _ in range(4)]
    new = Plan(
        [PlannedSource("b", "text", 1.0, 5), PlannedSource("a", "text", 1.0, 10), PlannedSource("c", "image", 1.0, 3)],
        {"text": 1.0, "image": 1.0},
        0,
    )
    new.load_state_dict(old.state_dict())
    rest = one_epoch(new)
    rows = {name: [t.index for t in rest if new.sources[t.source].name == name] for name in "abc"}
    assert sorted(begun + rows["a"]) == list(range(10))
    assert (sorted(rows["b"]), sorted(rows["c"])) == ([*range(5)], [*range(3)])


def test_seeds_epochs_and_repeats_each_shuffle_anew() -> None:
    plan = one_source(50, repeat=2)
    orders = [rows_of_epoch(plan, 0)[:50], rows_of_epoch(plan, 0)[50:], rows_of_epoch(plan, 1)[:50]]
    orders.append(rows_of_epoch(one_source(50, repeat=2, seed=6), 0)[:50])
    orders.append([*range(50)])
    assert len({tuple(order) for order in orders}) == len(orders)


def test_two_sources_of_one_size_are_shuffled_differently() -> None:
    plan = Plan([PlannedSource(name, "text", 1.0, 50) for name in "ab"], {"text": 1.0}, 0)
    tickets = one_epoch(plan)
    first, second = ([ticket.index for ticket in tickets if ticket.source == number] for number in (0, 1))
    assert first != second


def test_the_randomness_of_a_row_differs_by_epoch_and_repeat_and_seed() -> None:
    seeds = {
        ticket.seed
        for plan, epoch in ((one_source(1, 3), 0), (one_source(1, 3), 1), (one_source(1, 3, seed=6), 0))
        for ticket in (plan.start_epoch(epoch), one_epoch(plan))[1]
    }
    assert len(seeds) == 9


def test_the_order_never_changes_between_versions() -> None:
    """A run that was stopped under an older version resumes on the order that it began with."""
    assert rows_of_epoch(one_source(12), 0) == [7, 11, 5, 4, 0, 9, 3, 2, 1, 8, 10, 6]

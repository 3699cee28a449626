"""Which samples meet in a micro-batch: packed rows, or samples of like length and one shape."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.data.packing import Layout, Piece, arrange, best_fit, joined

LENGTHS = st.lists(st.integers(1, 35), min_size=1, max_size=40)
SEEDS = st.none() | st.integers(0, 99)


def packed(rows: int = 2, row_length: int = 10, batch_tokens: int | None = None) -> Layout:
    return Layout(1, 64, rows, row_length, batch_tokens)


def sorted_by_length(rows: int = 3, batch_tokens: int | None = None) -> Layout:
    return Layout(1, 64, rows, None, batch_tokens)


@PATIENT
@given(LENGTHS, st.integers(1, 4), SEEDS)
def test_every_position_is_in_one_row_and_rows_never_overflow(lengths: list[int], rows: int, seed: int | None) -> None:
    groups = arrange(lengths, [()] * len(lengths), packed(rows), seed)
    assert all(1 <= len(group) <= rows for group in groups)
    assert all(len(group) == rows for group in groups[:-1])
    found: list[tuple[int, int]] = []
    for row in (row for group in groups for row in group):
        assert sum(piece.stop - piece.start for piece in row) <= 10
        found += [(piece.sample, at) for piece in row for at in range(piece.start, piece.stop)]
    assert sorted(found) == [(sample, at) for sample, length in enumerate(lengths) for at in range(length)]


@PATIENT
@given(LENGTHS)
def test_no_two_rows_could_be_one(lengths: list[int]) -> None:
    rows = best_fit([min(length, 10) for length in lengths], 10)
    used = sorted(sum(min(lengths[at], 10) for at in row) for row in rows)
    assert len(used) < 2 or used[0] + used[1] > 10


def test_real_lengths_fill_rows_nearly_wholly() -> None:
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.lognormal(4.5, 1.0, 512), 20_000).astype(int).tolist()
    groups = arrange(lengths, [()] * 512, packed(4, 256), 0)
    num_rows = sum(len(group) for group in groups)
    assert sum(lengths) / (num_rows * 256) > 0.98


@PATIENT
@given(LENGTHS, st.data(), st.integers(1, 4), SEEDS)
def test_samples_of_one_shape_and_like_lengths_meet(
    lengths: list[int], data: st.DataObject, rows: int, seed: int | None
) -> None:
    shapes = [data.draw(st.sampled_from(["wide", "high"])) for _ in lengths]
    groups = arrange(lengths, shapes, sorted_by_length(rows), seed)
    members = [[piece.sample for [piece] in group] for group in groups]
    assert sorted(at for group in members for at in group) == list(range(len(lengths)))
    for group in members:
        assert len(group) <= rows
        assert len({shapes[at] for at in group}) == 1
    for shape in set(shapes):
        spans = sorted(
            (min(own), max(own))
            for group in members
            if shapes[group[0]] == shape and (own := [lengths[at] for at in group])
        )
        assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(spans))


@PATIENT
@given(LENGTHS, st.integers(1, 120))
def test_a_token_budget_holds_with_the_padding(lengths: list[int], budget: int) -> None:
    for group in arrange(lengths, [()] * len(lengths), sorted_by_length(3, budget), 0):
        longest = max(lengths[piece.sample] for [piece] in group)
        assert len(group) == 1 or len(group) * longest <= budget
    for packed_group in arrange(lengths, [()] * len(lengths), packed(3, 10, budget), 0)[:-1]:
        assert len(packed_group) == max(1, budget // 10)


def test_micro_batches_come_shuffled_and_the_same_for_one_seed() -> None:
    lengths = list(range(1, 41))
    first, again, other = (arrange(lengths, [()] * 40, sorted_by_length(4), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other), "a seed changes the order alone"


def test_pieces_that_lie_end_to_end_are_joined() -> None:
    pieces = [Piece(1, 4, 8), Piece(0, 8, 9), Piece(1, 0, 4), Piece(0, 0, 4), Piece(2, 8, 9)]
    assert joined(pieces) == [Piece(0, 0, 4), Piece(0, 8, 9), Piece(1, 0, 8), Piece(2, 8, 9)]

"""Packing documents into rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.data.packing import RowPacker, count_rows, pack

LENGTHS = st.lists(st.integers(1, 10), max_size=40)


@PATIENT
@given(LENGTHS)
def test_rows_hold_every_piece_once_in_order_and_never_overflow(lengths: list[int]) -> None:
    rows = pack(lengths, num_rows=40, row_length=10)
    assert [index for row in rows for index in row] == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in row) for row in rows]
    assert all(used <= 10 for used in filled)
    for used, following in zip(filled, rows[1:], strict=False):
        assert used + lengths[following[0]] > 10, "a row was begun though the piece had room in the one before"


@PATIENT
@given(LENGTHS, st.integers(1, 4))
def test_what_a_packer_took_is_what_pack_lays_out(lengths: list[int], num_rows: int) -> None:
    packer = RowPacker(num_rows, 10)
    taken = 0
    while taken < len(lengths) and packer.add(lengths[taken]):
        taken += 1
    assert pack(lengths[:taken], num_rows, 10) == packer.rows
    if taken < len(lengths):
        with pytest.raises(ValueError, match=f"do not fit into {num_rows} rows of 10"):
            pack(lengths, num_rows, 10)


def test_a_piece_that_does_not_fit_changes_nothing() -> None:
    packer = RowPacker(2, 10)
    assert [packer.add(length) for length in (6, 5, 6)] == [True, True, False]
    assert packer.rows == [[0], [1]]
    assert packer.add(5)
    assert packer.rows == [[0], [1, 2]]


def test_a_piece_as_long_as_a_row_fits_into_an_empty_one_only() -> None:
    assert pack([10, 10, 1, 10], 4, 10) == [[0], [1], [2], [3]]


@PATIENT
@given(st.lists(st.integers(1, 35), min_size=1, max_size=30))
def test_count_rows_cuts_long_documents_into_pieces(lengths: list[int]) -> None:
    pieces = [min(10, length - start) for length in lengths for start in range(0, length, 10)]
    assert count_rows(lengths, 10) == len(pack(pieces, 1000, 10))

"""The order of a source's rows: every row once a round, window by window, and no window across a border of a block."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENT

from xoron_core.data.shuffle import RowOrder


@st.composite
def orders(draw: st.DrawFn) -> tuple[RowOrder, list[int]]:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    blocks = [sum(sizes[:at]) for at in range(len(sizes))]
    return RowOrder(draw(st.integers(0, 9)), "a", sum(sizes), blocks, draw(st.integers(2, 12))), blocks


@PATIENT
@given(orders(), st.integers(0, 3))
def test_a_round_has_every_row_once(made: tuple[RowOrder, list[int]], round_: int) -> None:
    order, _ = made
    assert sorted(order.row(round_, place) for place in range(order.num_rows)) == list(range(order.num_rows))


@PATIENT
@given(orders())
def test_what_is_read_together_stays_together(made: tuple[RowOrder, list[int]]) -> None:
    order, blocks = made
    rows = [order.row(0, place) for place in range(order.num_rows)]
    begins = [max(block for block in blocks if block <= row) for row in rows]
    windows = [(begin, (row - begin) // order.window) for begin, row in zip(begins, rows, strict=True)]
    changes = [before for before, after in pairwise(windows) if before != after]
    assert len(changes) == len(set(windows)) - 1, "a window was left and came again"


@PATIENT
@given(orders(), st.integers(0, 3), st.data())
def test_a_place_is_told_without_those_before_it(
    made: tuple[RowOrder, list[int]], round_: int, data: st.DataObject
) -> None:
    order, blocks = made
    rows = [order.row(round_, place) for place in range(order.num_rows)]
    place = data.draw(st.integers(0, order.num_rows - 1))
    again = RowOrder(order.seed, order.name, order.num_rows, blocks, order.window)
    assert again.row(round_, place) == rows[place]


def test_rounds_and_windows_are_shuffled() -> None:
    order = RowOrder(0, "a", 100, (0,), 10)
    rounds = [[order.row(round_, place) for place in range(100)] for round_ in (0, 1)]
    assert rounds[0] != rounds[1]
    assert [row // 10 for row in rounds[0][::10]] != list(range(10)), "windows come in the order of the file"
    assert rounds[0][:10] != sorted(rounds[0][:10]), "rows of a window come in the order of the file"


def test_a_window_of_one_row_leaves_the_order_of_the_file() -> None:
    order = RowOrder(0, "a", 30, (0, 10), 1)
    assert [order.row(1, place) for place in range(30)] == list(range(30))


def test_a_billion_rows_take_no_memory() -> None:
    order = RowOrder(0, "a", 10**9, (0,), 65_536)
    assert 0 <= order.row(3, 999_999_999) < 10**9

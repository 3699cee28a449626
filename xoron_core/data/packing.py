"""How the samples of a window become micro-batches: packed into full rows, or sorted by length and shape."""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Layout:
    """What decides which samples meet in a micro-batch: `num_ranks` share the tickets of a window, `window` each;
    `rows` and `row_length` are those of a micro-batch of one of them (None: a sample is a row), `batch_tokens` the most
    positions in it, padding included."""

    num_ranks: int
    window: int
    rows: int
    row_length: int | None
    batch_tokens: int | None


class Piece(NamedTuple):
    """The positions from `start` up to `stop` of a sample, by its place among those that are arranged."""

    sample: int
    start: int
    stop: int


Row = list[Piece]


def arrange(
    lengths: Sequence[int], shapes: Sequence[Hashable], layout: Layout, seed: int | None = None
) -> list[list[Row]]:
    """The micro-batches, each a list of rows. `seed` decides in what order rows and micro-batches come; None: as they
    were made."""
    order = np.random.Generator(np.random.PCG64(seed)) if seed is not None else None
    if layout.row_length is not None:
        return _packed(lengths, layout.row_length, layout, order)
    groups = _sorted(lengths, shapes, layout)
    if order is not None:
        groups = [groups[at] for at in order.permutation(len(groups))]
    return [[[Piece(at, 0, lengths[at])] for at in group] for group in groups]


def _packed(
    lengths: Sequence[int], row_length: int, layout: Layout, order: np.random.Generator | None
) -> list[list[Row]]:
    pieces = [
        Piece(at, start, min(start + row_length, length))
        for at, length in enumerate(lengths)
        for start in range(0, length, row_length)
    ]
    rows = best_fit([piece.stop - piece.start for piece in pieces], row_length)
    if order is not None:
        rows = [rows[at] for at in order.permutation(len(rows))]
    size = layout.rows if layout.batch_tokens is None else max(1, layout.batch_tokens // row_length)
    packed = [[pieces[at] for at in sorted(row)] for row in rows]
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def _sorted(lengths: Sequence[int], shapes: Sequence[Hashable], layout: Layout) -> list[list[int]]:
    groups: list[list[int]] = []
    for shape in dict.fromkeys(shapes):
        own = sorted((at for at in range(len(lengths)) if shapes[at] == shape), key=lambda at: lengths[at])
        group: list[int] = []
        for at in own:
            if group and not _has_room(len(group) + 1, lengths[at], layout):
                groups.append(group)
                group = []
            group.append(at)
        groups.append(group)
    return groups


def _has_room(count: int, longest: int, layout: Layout) -> bool:
    if layout.batch_tokens is None:
        return count <= layout.rows
    return count * longest <= layout.batch_tokens


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of places in `lengths`, none of which is more than `capacity`: the longest first, each into the row that it
    fills best (best-fit decreasing; within 11/9 of the fewest rows, Johnson 1973)."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left in each row that is not full, ascending
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        fitting = bisect_left(room, (lengths[at], -1))
        if fitting < len(room):
            free, row = room.pop(fitting)
            rows[row].append(at)
        else:
            free, row = capacity, len(rows)
            rows.append([at])
        if free > lengths[at]:
            insort(room, (free - lengths[at], row))
    return rows


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same positions in order, pieces of a sample that lie end to end as one."""
    found: list[Piece] = []
    for piece in sorted(pieces):
        if found and found[-1].sample == piece.sample and found[-1].stop == piece.start:
            found[-1] = found[-1]._replace(stop=piece.stop)
        else:
            found.append(piece)
    return found

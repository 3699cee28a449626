"""SQL about points: chunks of doubles for each run, attempt and metric."""

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from server import db

CHUNK_POINTS = 128
WIDTH = 5


class Point(NamedTuple):
    """A value of one metric; NaN stands for null."""

    step: float
    tokens: float
    samples: float
    time: float
    value: float


@dataclass
class _Tail:
    """The newest chunk of one metric in one attempt."""

    number: int
    points: list[Point] = field(default_factory=list)
    is_stored: bool = False
    is_changed: bool = False


class PointWriter:
    """Appends points of one run; the chunks that are not full yet stay in memory."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._tails: dict[tuple[int, str], _Tail] = {}
        self._known: set[str] = set()

    def append(self, connection: Connection, points: Iterable[tuple[int, str, Point]]) -> None:
        """Write (attempt, key, point) triples within the caller's transaction."""
        for attempt, key, point in points:
            tail = self._tail(connection, attempt, key)
            if len(tail.points) >= CHUNK_POINTS:
                self._store(connection, attempt, key, tail)
                tail = self._tails[attempt, key] = _Tail(tail.number + 1)
            tail.points.append(point)
            tail.is_changed = True
        for (attempt, key), tail in self._tails.items():
            self._store(connection, attempt, key, tail)

    def _tail(self, connection: Connection, attempt: int, key: str) -> _Tail:
        tail = self._tails.get((attempt, key))
        if tail is None:
            tail = self._tails[attempt, key] = self._load(connection, attempt, key)
        return tail

    def _load(self, connection: Connection, attempt: int, key: str) -> _Tail:
        here = and_(db.chunks.c.run_id == self.run_id, db.chunks.c.attempt == attempt, db.chunks.c.key == key)
        newest = select(db.chunks.c.number, db.chunks.c.points).where(here).order_by(db.chunks.c.number.desc()).limit(1)
        row = connection.execute(newest).one_or_none()
        if key not in self._known:
            self._note_key(connection, key)
        return _Tail(0) if row is None else _Tail(row.number, decode(row.points), is_stored=True)

    def _note_key(self, connection: Connection, key: str) -> None:
        here = and_(db.metric_keys.c.run_id == self.run_id, db.metric_keys.c.key == key)
        if connection.execute(select(db.metric_keys.c.key).where(here)).one_or_none() is None:
            connection.execute(db.metric_keys.insert().values(run_id=self.run_id, key=key))
        self._known.add(key)

    def _store(self, connection: Connection, attempt: int, key: str, tail: _Tail) -> None:
        if not tail.is_changed:
            return
        finite = [point.value for point in tail.points if not math.isnan(point.value)]
        values = {
            "first_step": int(tail.points[0].step),
            "last_step": int(tail.points[-1].step),
            "num_points": len(tail.points),
            "num_null": len(tail.points) - len(finite),
            "smallest": min(finite, default=None),
            "largest": max(finite, default=None),
            "points": encode(tail.points),
        }
        name = {"run_id": self.run_id, "attempt": attempt, "key": key, "number": tail.number}
        if tail.is_stored:
            where = and_(*(db.chunks.c[column] == value for column, value in name.items()))
            connection.execute(db.chunks.update().where(where).values(**values))
        else:
            connection.execute(db.chunks.insert().values(**name, **values))
        tail.is_stored, tail.is_changed = True, False


def encode(points: list[Point]) -> bytes:
    """Points as doubles, one after another."""
    return array("d", [number for point in points for number in point]).tobytes()


def decode(blob: bytes) -> list[Point]:
    """What `encode` wrote."""
    numbers = array("d")
    numbers.frombytes(blob)
    return [Point(*numbers[at : at + WIDTH]) for at in range(0, len(numbers), WIDTH)]


def keys(connection: Connection, run_id: str) -> list[str]:
    """Every metric that a run has."""
    here = select(db.metric_keys.c.key).where(db.metric_keys.c.run_id == run_id).order_by(db.metric_keys.c.key)
    return list(connection.scalars(here))


def read(connection: Connection, run_id: str, key: str, cuts: Mapping[int, int]) -> list[Point]:
    """The points of one metric in order, without those that a later attempt replaced."""
    statement = (
        select(db.chunks.c.attempt, db.chunks.c.points)
        .where(db.chunks.c.run_id == run_id, db.chunks.c.key == key, _begins_within(cuts))
        .order_by(db.chunks.c.attempt, db.chunks.c.number)
    )
    points: list[Point] = []
    for row in connection.execute(statement):
        limit = cuts.get(row.attempt, math.inf)
        points.extend(point for point in decode(row.points) if point.step <= limit)
    return points


def _begins_within(cuts: Mapping[int, int]) -> ColumnElement[bool]:
    return and_(True, *(_within(db.chunks.c.first_step, attempt, cut) for attempt, cut in cuts.items()))  # noqa: FBT003


def _ends_within(cuts: Mapping[int, int]) -> ColumnElement[bool]:
    return and_(True, *(_within(db.chunks.c.last_step, attempt, cut) for attempt, cut in cuts.items()))  # noqa: FBT003


def _within(step: ColumnElement[int], attempt: int, cut: int) -> ColumnElement[bool]:
    return or_(db.chunks.c.attempt != attempt, step <= cut)


@dataclass
class Totals:
    """One metric over a whole run."""

    count: int = 0
    num_null: int = 0
    smallest: float | None = None
    largest: float | None = None

    def add(self, count: int, num_null: int, smallest: float | None, largest: float | None) -> None:
        """Take more points in."""
        self.count += count
        self.num_null += num_null
        if smallest is not None and (self.smallest is None or smallest < self.smallest):
            self.smallest = smallest
        if largest is not None and (self.largest is None or largest > self.largest):
            self.largest = largest


def totals(connection: Connection, run_id: str, cuts: Mapping[int, int]) -> dict[str, Totals]:
    """Count and extremes of every metric; only chunks that a cut goes through are decoded."""
    chunk = db.chunks.c
    whole = (
        select(
            chunk.key,
            func.sum(chunk.num_points),
            func.sum(chunk.num_null),
            func.min(chunk.smallest),
            func.max(chunk.largest),
        )
        .where(chunk.run_id == run_id, _ends_within(cuts))
        .group_by(chunk.key)
    )
    found: dict[str, Totals] = {}
    for key, count, num_null, smallest, largest in connection.execute(whole):
        found.setdefault(key, Totals()).add(count, num_null, smallest, largest)
    for attempt, cut in cuts.items():
        parted = select(chunk.key, chunk.points).where(
            chunk.run_id == run_id, chunk.attempt == attempt, chunk.first_step <= cut, chunk.last_step > cut
        )
        for key, blob in connection.execute(parted):
            values = [point.value for point in decode(blob) if point.step <= cut]
            finite = [value for value in values if not math.isnan(value)]
            found.setdefault(key, Totals()).add(
                len(values), len(values) - len(finite), min(finite, default=None), max(finite, default=None)
            )
    return found


def newest(connection: Connection, run_id: str, key: str, cuts: Mapping[int, int], num_points: int) -> list[Point]:
    """The last points of one metric, at most `num_points`."""
    num_chunks = 2 + num_points // CHUNK_POINTS + len(cuts)
    statement = (
        select(db.chunks.c.attempt, db.chunks.c.points)
        .where(db.chunks.c.run_id == run_id, db.chunks.c.key == key, _begins_within(cuts))
        .order_by(db.chunks.c.attempt.desc(), db.chunks.c.number.desc())
        .limit(num_chunks)
    )
    points: list[Point] = []
    for row in connection.execute(statement):
        limit = cuts.get(row.attempt, math.inf)
        points = [point for point in decode(row.points) if point.step <= limit] + points
        if len(points) >= num_points:
            break
    return points[-num_points:]

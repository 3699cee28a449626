"""Following one run's events into the index: what is read and what it adds up to, one transaction at a time."""

import json
import logging
import math
from typing import Any

from sqlalchemy import Connection, func, select

from server import db
from server.db.tables import MAX_KEY
from server.metrics.store import Point, PointWriter
from server.runs.facts import typed
from server.runs.index import RunIndex
from server.runs.store import RunRow
from server.samples import store as notes
from xoron_core.contract import clock
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.segments import LIVE_NAME
from xoron_core.contract.tailer import EventTailer

log = logging.getLogger(__name__)

MARK_BYTES = 1 << 18
NOTED_KINDS = frozenset({"sample", "checkpoint"})
MAX_NUMBER = 2**63 - 1


class StaleError(Exception):
    """The index is at another place than this follower left it at: it was rebuilt or put back from a copy."""


class RewrittenError(Exception):
    """What the index has of a run's events is not what its files say: their end was lost, or a backup was put back."""


class Follower:
    """Reads a run's events from the cursor in the index and folds them in.

    `read` holds what it read until `commit` has it in the index; only then may the records be passed on.
    """

    def __init__(self, index: RunIndex, run: RunDirectory, row: RunRow) -> None:
        self.run = run
        self.pending: list[dict[str, Any]] = []
        self.must_commit = False
        self._index = index
        self._facts = row.facts
        self._base = row.cursor.seq
        self._tailer = EventTailer(run.path, row.cursor)
        self._writer = PointWriter(run.id)
        self._points: list[tuple[int, str, Point]] = []
        self._notes: list[dict[str, Any]] = []
        self._mark = -1

    def read(self, max_bytes: int) -> bool:
        """Take in what is new; False when nothing is.

        Raises: RewrittenError.
        """
        records = self._tailer.poll(max_bytes)
        if self._tailer.is_displaced:
            raise RewrittenError(f"the events of {self.run.id} are not those that were read before")
        for record in records:
            self._fold(record)
        self.pending.extend(records)
        return bool(records)

    def _fold(self, record: dict[str, Any]) -> None:
        self._facts.saw(record)
        kind = record.get("kind")
        if kind in {"metrics", "eval"}:
            if not self._fold_values(record, is_metrics=kind == "metrics"):
                self._malformed(record)
            return
        self.must_commit = True
        pair = typed(record)
        if pair is None:
            self._malformed(record)
            return
        stamp, event = pair
        if event is not None:
            self._facts.add(stamp, event)
        if kind in NOTED_KINDS:
            self._notes.append(record)

    def _fold_values(self, record: dict[str, Any], *, is_metrics: bool) -> bool:
        """Count in the values of one step; this runs for every logged step, so it does without models."""
        try:
            attempt, step, tokens, samples = (_count(record[name]) for name in ("attempt", "step", "tokens", "samples"))
            time = clock.parse_time(record["time"]).timestamp()
            values = {_key(name): _number(value) for name, value in record["values"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return False
        if is_metrics:
            self._facts.add_metrics(attempt, step, tokens, samples, values)
        for name, value in values.items():
            point = Point(step, tokens, samples, time, math.nan if value is None else value)
            self._points.append((attempt, name, point))
        return True

    def _malformed(self, record: dict[str, Any]) -> None:
        self._facts.num_malformed += 1
        if self._facts.num_malformed <= 3:  # enough to find out why; a broken writer must not fill the log
            log.warning("event %s of %s is malformed and was left out", record.get("seq"), self.run.id)

    def commit(self) -> list[dict[str, Any]]:
        """Save points and cursor in one transaction; the records that may be passed on now.

        Raises: StaleError; DatabaseTroubleError. What was read is not in the index then: begin again from its row.
        """
        with self._index.database.writing:
            with self._index.database.write() as connection:
                self._check_base(connection)
                row = self._index.advance(connection, self.run.id, self._facts, self._tailer.cursor)
                if row is not None:
                    self._writer.append(connection, self._points)
                    notes.add(connection, self.run.id, self._notes)
                    self._set_mark(connection)
            if row is not None:
                self._index.announce(row)
        records, self.pending, self._points, self._notes = self.pending, [], [], []
        self.must_commit = False
        self._base = self._tailer.cursor.seq
        self._facts = self._facts.model_copy(deep=True)  # the row keeps the one that was saved
        return records

    def _check_base(self, connection: Connection) -> None:
        """Nothing may be added to an index that lacks what came before, or has it already."""
        place = connection.scalar(select(db.runs.c.cursor_seq).where(db.runs.c.id == self.run.id))
        if place != self._base and self.run.run_file.exists():
            raise StaleError(f"the index of {self.run.id} is at event {place}, not at {self._base}")

    def lag_bytes(self) -> int:
        """About how much is written but not read yet."""
        try:
            size = (self.run.path / LIVE_NAME).stat().st_size
        except FileNotFoundError:
            return 0
        return max(0, size - self._tailer.cursor.offset)

    def _set_mark(self, connection: Connection) -> None:
        """Every so many bytes, note a place from which a replay can begin."""
        cursor = self._tailer.cursor
        here = db.marks.c.run_id == self.run.id
        if self._mark < 0:
            newest = select(func.max(db.marks.c.offset)).where(here, db.marks.c.first_seq == cursor.first_seq)
            self._mark = connection.scalar(newest) or 0
        if cursor.offset < self._mark:  # a new file was begun
            self._mark = 0
        if cursor.offset - self._mark >= MARK_BYTES:
            known = select(db.marks.c.seq).where(here, db.marks.c.seq == cursor.seq)
            if connection.scalar(known) is None:
                mark = {"seq": cursor.seq, "first_seq": cursor.first_seq, "offset": cursor.offset}
                connection.execute(db.marks.insert().values(run_id=self.run.id, **mark))
            self._mark = cursor.offset

    def pause(self) -> None:
        """Let go of the open file; reading goes on where it was."""
        self._tailer.close()


def encode_events(run_id: str, records: list[dict[str, Any]]) -> str:
    """The stream's frame of a run's records."""
    frame = {"type": "events", "run": run_id, "events": records}
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)


def _count(value: Any) -> int:
    """A whole number that a database column holds.

    Raises: TypeError, ValueError.
    """
    number = int(value)
    if abs(number) > MAX_NUMBER:
        raise ValueError(f"{number} has more than 64 bits")
    return number


def _key(name: str) -> str:
    """A metric's name, if it is one that a database column holds.

    Raises: ValueError.
    """
    if len(name) > MAX_KEY:
        raise ValueError(f"a metric's name has at most {MAX_KEY} characters")
    return name


def _number(value: Any) -> float | None:
    """A finite number or None.

    Raises: TypeError for anything that is neither a number nor null.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a metric's value must be a number or null, not {value!r}")
    return float(value) if math.isfinite(value) else None

"""SQL about runs."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from server import db
from server.runs.facts import RunFacts
from server.runs.standing import Standing
from xoron_core.contract.api import Waiting
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.run_directory import RunRecord
from xoron_core.contract.states import LIVE, RunState
from xoron_core.contract.tailer import Cursor


@dataclass(frozen=True)
class RunRow:
    """A run in the index."""

    record: RunRecord
    facts: RunFacts
    state: RunState
    max_steps: int | None
    cursor: Cursor
    standing: Standing = field(default_factory=Standing)

    @property
    def waiting(self) -> Waiting | None:
        """Where it stands in the queue and why, once the scheduler has looked."""
        return self.standing.waiting

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id

    @property
    def attempt(self) -> int:
        """The newest attempt: the one asked for, or a later one that the keeper began to recover."""
        begun = 0 if self.facts.state is None else self.facts.state.attempt
        return max(self.record.attempt, begun)


def _row(row: Row[Any]) -> RunRow:
    return RunRow(
        record=RunRecord.model_validate_json(row.record),
        facts=RunFacts.model_validate_json(row.facts),
        state=RunState(row.state),
        max_steps=row.max_steps,
        cursor=Cursor(row.cursor_seq, row.cursor_first_seq, row.cursor_offset),
        standing=Standing() if row.waiting is None else Standing.model_validate_json(row.waiting),
    )


def get(connection: Connection, run_id: str) -> RunRow | None:
    """One run."""
    row = connection.execute(select(db.runs).where(db.runs.c.id == run_id)).one_or_none()
    return None if row is None else _row(row)


def by_key(connection: Connection, key: str) -> RunRow | None:
    """The run that was created under an idempotency key; it is stored as `KEY#DIGEST`, and a key may hold `#`, too."""
    statement = select(db.runs).where(db.runs.c.idempotency_key.startswith(f"{key}#", autoescape=True))
    rows = connection.execute(statement)
    return next((_row(row) for row in rows if row.idempotency_key.rpartition("#")[0] == key), None)


def ids(connection: Connection) -> list[str]:
    """Every run there is."""
    return list(connection.scalars(select(db.runs.c.id)))


def live_ids(connection: Connection) -> list[str]:
    """Runs that were live when last looked at."""
    return list(connection.scalars(select(db.runs.c.id).where(db.runs.c.state.in_([state.value for state in LIVE]))))


def queue(connection: Connection) -> list[RunRow]:
    """Runs that wait, the next one first."""
    statement = (
        select(db.runs)
        .where(db.runs.c.state == RunState.QUEUED.value)
        .order_by(db.runs.c.priority.desc(), db.runs.c.place, db.runs.c.created_at, db.runs.c.id)
    )
    return [_row(row) for row in connection.execute(statement)]


def live_names(connection: Connection) -> dict[str, str]:
    """Runs that were live when last looked at, and what they are called."""
    is_live = db.runs.c.state.in_([state.value for state in LIVE])
    rows = connection.execute(select(db.runs.c.id, db.runs.c.record).where(is_live).order_by(db.runs.c.id))
    return {row.id: RunRecord.model_validate_json(row.record).name for row in rows}


def interrupted(connection: Connection) -> list[RunRow]:
    """Runs whose keeper went away, the oldest first."""
    is_interrupted = db.runs.c.state == RunState.INTERRUPTED.value
    ordered = select(db.runs).where(is_interrupted).order_by(db.runs.c.created_at, db.runs.c.id)
    return [_row(row) for row in connection.execute(ordered)]


def last_place(connection: Connection) -> float:
    """The largest place that any run has, whether it waits or not; -1 before the first."""
    place = connection.scalar(select(func.max(db.runs.c.place)))
    return -1.0 if place is None else float(place)


def page(
    connection: Connection, states: list[RunState], tags: list[str], limit: int, cursor: str | None
) -> tuple[list[RunRow], str | None]:
    """The newest runs first, and the cursor of the next page.

    Raises: ConfigError for a cursor that no page gave.
    """
    statement = select(db.runs).order_by(db.runs.c.created_at.desc(), db.runs.c.id.desc()).limit(limit + 1)
    if states:
        statement = statement.where(db.runs.c.state.in_([state.value for state in states]))
    for tag in tags:
        statement = statement.where(db.runs.c.tags.contains(f"\n{tag}\n", autoescape=True))
    if cursor is not None:
        created_at, run_id = _decode(cursor)
        older = and_(db.runs.c.created_at == created_at, db.runs.c.id < run_id)
        statement = statement.where(or_(db.runs.c.created_at < created_at, older))
    rows = [_row(row) for row in connection.execute(statement)]
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], _encode(last.record.created_at, last.id)


def _encode(created_at: str, run_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at} {run_id}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, run_id = base64.urlsafe_b64decode(padded.encode()).decode().split(" ")
    except (ValueError, binascii.Error) as error:
        raise ConfigError.of("cursor", "is not one that a page gave as next_cursor", cursor) from error
    return created_at, run_id


def save(connection: Connection, row: RunRow) -> None:
    """Insert or replace a run's row."""
    record = row.record
    values = {
        "created_at": record.created_at,
        "state": row.state.value,
        "priority": record.priority,
        "place": record.place,
        "waiting": None if row.standing == Standing() else row.standing.model_dump_json(),
        "tags": "\n" + "".join(f"{tag}\n" for tag in record.tags),
        "idempotency_key": record.idempotency_key,
        "max_steps": row.max_steps,
        "record": record.model_dump_json(),
        "facts": row.facts.model_dump_json(),
        "cursor_seq": row.cursor.seq,
        "cursor_first_seq": row.cursor.first_seq,
        "cursor_offset": row.cursor.offset,
    }
    changed = connection.execute(db.runs.update().where(db.runs.c.id == row.id).values(**values))
    if changed.rowcount == 0:
        connection.execute(db.runs.insert().values(id=row.id, **values))


def forget_events(connection: Connection, run_id: str) -> None:
    """Forget what a run said, apart from what its own row adds up."""
    for table in db.PER_RUN:
        connection.execute(table.delete().where(table.c.run_id == run_id))


def remove(connection: Connection, run_id: str) -> None:
    """Forget a run and everything about it."""
    forget_events(connection, run_id)
    connection.execute(db.runs.delete().where(db.runs.c.id == run_id))

"""The tables of the index. A change of their form is a migration; a change of what is kept in one raises `CONTENT`."""

from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Float, Index, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.types import TypeDecorator, TypeEngine

CONTENT = 4
"""Raised when something else is kept in the tables than before; an index of another number is built anew."""

metadata = MetaData()


class Words(TypeDecorator[str]):
    """Text as every database takes it: ordered by code points; what PostgreSQL or UTF-8 has no form for is replaced."""

    impl = String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL would order by the language of the machine."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(String(self.length, collation=collation))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """On the way in."""
        return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


meta = Table(
    "meta",
    metadata,
    Column("content", Integer, primary_key=True, autoincrement=False),
    Column("probe", BigInteger, nullable=False, doc="counts the trial writes"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Words(63), primary_key=True),
    Column("created_at", Words(32), nullable=False),
    Column("state", Words(16), nullable=False, index=True),
    Column("priority", BigInteger, nullable=False),
    Column("place", Float, nullable=False, doc="in the queue, among runs of one priority"),
    Column("waiting", Words, doc="where it stands in the queue and why; null: it does not wait"),
    Column("tags", Words, nullable=False, doc="each tag between newlines"),
    Column("idempotency_key", Words(300), index=True),
    Column("max_steps", BigInteger),
    Column("record", Words, nullable=False, doc="run.json as it was read last"),
    Column("facts", Words, nullable=False, doc="what the events said, up to the cursor"),
    Column("cursor_seq", BigInteger, nullable=False),
    Column("cursor_first_seq", BigInteger, nullable=False),
    Column("cursor_offset", BigInteger, nullable=False),
    Index("runs_by_creation", "created_at", "id"),
)

MAX_KEY = 300
metric_keys = Table(
    "metric_keys",
    metadata,
    Column("run_id", Words(63), primary_key=True),
    Column("key", Words(MAX_KEY), primary_key=True),
)

chunks = Table(
    "chunks",
    metadata,
    Column("run_id", Words(63), primary_key=True),
    Column("key", Words(MAX_KEY), primary_key=True),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("num_points", Integer, nullable=False),
    Column("num_null", Integer, nullable=False),
    Column("smallest", Float),
    Column("largest", Float),
    Column("points", LargeBinary, nullable=False, doc="doubles: step, tokens, samples, time, value; null is NaN"),
)

notes = Table(
    "notes",
    metadata,
    Column("run_id", Words(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Words(16), nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("event", Words, nullable=False),
)

marks = Table(
    "marks",
    metadata,
    Column("run_id", Words(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False, doc="events can be read from here on, unsearched"),
    Column("first_seq", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

PER_RUN = (metric_keys, chunks, notes, marks)
"""Tables whose rows go when a run goes, apart from its own row."""

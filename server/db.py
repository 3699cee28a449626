"""The index: a database that can be deleted at any time, since the run directories hold everything in it."""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from server.errors import ServeError

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
"""Raised with every change of a table below or of what is kept in one; an index of another version is built anew."""

metadata = MetaData()

meta = Table("meta", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("created_at", String(32), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("priority", Integer, nullable=False),
    Column("tags", Text, nullable=False, comment="each tag between newlines"),
    Column("idempotency_key", String(300), index=True),
    Column("max_steps", Integer),
    Column("record", Text, nullable=False, comment="run.json as it was read last"),
    Column("facts", Text, nullable=False, comment="what the events said, up to the cursor"),
    Column("cursor_seq", Integer, nullable=False),
    Column("cursor_first_seq", Integer, nullable=False),
    Column("cursor_offset", Integer, nullable=False),
    Index("runs_by_creation", "created_at", "id"),
)

metric_keys = Table(
    "metric_keys",
    metadata,
    Column("run_id", String(63), primary_key=True),
    Column("key", String(300), primary_key=True),
)

chunks = Table(
    "chunks",
    metadata,
    Column("run_id", String(63), primary_key=True),
    Column("key", String(300), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first_step", Integer, nullable=False),
    Column("last_step", Integer, nullable=False),
    Column("num_points", Integer, nullable=False),
    Column("num_null", Integer, nullable=False),
    Column("smallest", Float),
    Column("largest", Float),
    Column("points", LargeBinary, nullable=False, comment="doubles: step, tokens, samples, time, value; null is NaN"),
)

notes = Table(
    "notes",
    metadata,
    Column("run_id", String(63), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("event", Text, nullable=False),
)

marks = Table(
    "marks",
    metadata,
    Column("run_id", String(63), primary_key=True),
    Column("seq", Integer, primary_key=True, comment="places from which events can be read without a search"),
    Column("first_seq", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
)

PER_RUN = (metric_keys, chunks, notes, marks)
"""Tables whose rows go when a run goes, apart from its own row."""


class Database:
    """Connections for reading, and for writing one writer at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.writing = threading.RLock()
        """Held by whoever writes."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the index."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction; the lock makes reading and then writing in it safe from other threads."""
        with self.writing, self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()


def open_database(url: str) -> Database:
    """Open the index at `url`; one that is missing, of another version or damaged is begun anew.

    Raises: ServeError when there is no way to.
    """
    engine = _engine(url)
    is_sqlite = engine.dialect.name == "sqlite"
    if is_sqlite and engine.url.database:
        _remove_unless_sound(Path(engine.url.database))
    if is_sqlite:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
    if inspect(engine).has_table(meta.name):
        with engine.connect() as connection:
            version = connection.scalar(select(meta.c.version))
        if version != SCHEMA_VERSION:
            metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        if connection.scalar(select(meta.c.version)) is None:
            connection.execute(meta.insert().values(version=SCHEMA_VERSION))
    return Database(engine)


def check_url(url: str) -> None:
    """Let pass the address of an index that can be opened here, as far as can be told without opening it.

    Raises: ServeError.
    """
    _engine(url).dispose()


def _engine(url: str) -> Engine:
    try:
        return create_engine(url, pool_size=8, max_overflow=56)
    except ArgumentError as error:
        raise ServeError(
            f"XORON_DATABASE_URL is no address of a database, like sqlite:////path/of/a/file: {error}"
        ) from error
    except ImportError as error:
        raise ServeError(f"XORON_DATABASE_URL needs a driver that is not installed ({error}); install it") from error


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions begin below, also for reading, and not by sqlite3's own rules
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=10000")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _remove_unless_sound(path: Path) -> None:
    if path.is_dir():
        raise ServeError(f"{path} is a folder where the index should be; remove it or set XORON_DATABASE_URL")
    if path.exists() and not _is_sound(path):
        log.warning("the index %s is damaged or of another version; building it anew from the run directories", path)
        for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            name.unlink(missing_ok=True)


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("SELECT version FROM meta").fetchone() or (None,)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError:
        return False
    return version == SCHEMA_VERSION and verdict == "ok"

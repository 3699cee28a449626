"""Making an index ready: connections, migrations, and beginning anew where the old one is of no use."""

import logging
import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from server.db.tables import CONTENT, meta, metadata
from server.db.trouble import DatabaseTroubleError, Fault, Trouble, diagnose, place_of
from server.errors import ServeError

log = logging.getLogger(__name__)

BUSY_MS = 1000
"""A lock of another program is waited for this long; the ingest waits on by trying again."""
WRITES = "xoron_writes"
"""Execution option of connections that will write."""
VERSION_TABLE = "xoron_revision"
REPLACED = ".replaced"
"""What the name of an old index ends with once a new one stands in its place."""
MIGRATIONS = Path(__file__).parents[1] / "migrations"


def make_engine(url: str) -> Engine:
    """Connections to the index at `url`; none is made yet.

    Raises: ServeError for an address that is none.
    """
    try:
        parsed = make_url(url)
        _check_kind(parsed)
        engine = create_engine(
            parsed, pool_size=8, max_overflow=56, pool_timeout=5, pool_pre_ping=True, connect_args=_arguments(parsed)
        )
    except ArgumentError as error:
        raise ServeError(
            f"XORON_DATABASE_URL is no address of a database, like sqlite:////path/of/a/file "
            f"or postgresql+psycopg://user:password@host/name: {error}"
        ) from error
    except ImportError as error:
        raise ServeError(
            f"XORON_DATABASE_URL needs a driver that is not installed ({error}); for PostgreSQL, "
            "pip install 'xoron[postgres]' and begin the address with postgresql+psycopg://"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
    return engine


def check_url(url: str) -> None:
    """Let pass the address of an index that can be opened here, as far as can be told without opening it.

    Raises: ServeError.
    """
    engine = make_engine(url)
    path = sqlite_path(engine)
    engine.dispose()
    if path is not None and path.is_dir():
        raise ServeError(f"{path} is a folder where the index should be; remove it or set XORON_DATABASE_URL")


def sqlite_path(engine: Engine) -> Path | None:
    """The index's file, where it is one."""
    return Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None


def _check_kind(url: URL) -> None:
    kind = url.get_backend_name()
    if kind not in {"sqlite", "postgresql"}:
        raise ArgumentError(f"{kind} is neither sqlite nor postgresql")
    if kind == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ArgumentError("an index in memory cannot be shared by threads; name a file")


def _arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": BUSY_MS / 1000}
    return {
        "connect_timeout": 2,
        "tcp_user_timeout": 3000,
        "options": f"-c lock_timeout={BUSY_MS} -c timezone=UTC",
        "application_name": "xoron",
    }


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions begin below, also for reading, and not by sqlite3's own rules
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA case_sensitive_like=ON")  # as PostgreSQL's


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def prepare(engine: Engine, why_anew: str | None = None) -> None:
    """Bring the index to today's tables; one of no use, or one that shall be begun anew, is cleared away first.

    `why_anew` is told in the log unless it is empty: then it is asked for by hand. The caller sees to it that nobody
    has a connection.

    Raises: DBAPIError, OSError; DatabaseTroubleError for a database of another program.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # at every start it would say that there is nothing to do
    engine.dispose()
    reason = _why_anew(engine) if why_anew is None else why_anew
    if reason:
        log.warning("the index %s %s; building it anew from the run directories", place_of(engine.url), reason)
    if reason is not None:
        _clear(engine, is_kept=bool(reason))
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        _upgrade(connection)
        if connection.scalar(select(meta.c.content)) is None:
            connection.execute(meta.insert().values(content=CONTENT, probe=0))


def _why_anew(engine: Engine) -> str | None:
    """What is wrong with the index so that it must be begun anew; None for a sound or a missing one.

    Raises: DBAPIError; DatabaseTroubleError for a database of another program.
    """
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite" and connection.scalar(text("PRAGMA quick_check(1)")) != "ok":
                return "is damaged"
            tables = set(inspect(connection).get_table_names())
            if not tables:
                return None
            if not tables & {VERSION_TABLE, meta.name}:  # nothing may be dropped there, whatever it is called
                raise DatabaseTroubleError(Trouble(Fault.FOREIGN, place_of(engine.url), ", ".join(sorted(tables)[:3])))
            revision = _revision(connection)
            if revision is None:
                return "was made before there were migrations"
            if revision not in {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}:
                return f"is of the unknown revision {revision}, which a later version may have written"
            content = connection.scalar(select(meta.c.content))
            return None if content == CONTENT else f"holds content of version {content} instead of {CONTENT}"
    except DBAPIError as error:
        trouble = diagnose(error, engine.url)
        if trouble is not None and trouble.fault is Fault.DAMAGED:
            return "is damaged"
        raise


def _revision(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    heads = context.get_current_heads()
    return heads[0] if heads else None


def _clear(engine: Engine, *, is_kept: bool) -> None:
    """Make room for a new index. An old file is kept beside it, one of them: a mistyped address may have named it."""
    path = sqlite_path(engine)
    engine.dispose()
    if path is not None:
        if is_kept and path.exists():
            path.replace(path.with_name(path.name + REPLACED))
        for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            name.unlink(missing_ok=True)
        return
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

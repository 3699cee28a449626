"""Connections to the index, which may fail at any time and never take more with them than the request at hand."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from server.db.opening import WRITES, check_url, make_engine, prepare, sqlite_path
from server.db.tables import meta
from server.db.trouble import DatabaseTroubleError, Fault, Trouble, diagnose, place_of
from server.errors import ServeError

log = logging.getLogger(__name__)

PROBE_S = 1.0
"""Whoever asks how the index is waits no longer than that for others to be through."""
WRITE_S = 5.0
"""Whoever writes waits no longer than that for others to be through."""
DRAIN_S = 5.0
"""A rebuilding waits this long for connections in use; then it is tried again later."""


class Database:
    """Connections for reading, and for writing one writer at a time.

    While `trouble` is known, what needs the index is refused at once instead of waiting; `heal` finds out when it is
    over, and rebuilds what is of no use any more.
    """

    def __init__(self, engine: Engine) -> None:
        self.is_whole = threading.Event()
        """Set while the index holds every run. As long as one reads, it stays so: rebuilding waits for readers."""
        self._engine = engine
        self.writing = _WriterLock(self._about(Fault.BUSY))
        """Held by whoever writes."""
        self._reader = _reader(engine)
        self._writer = engine.execution_options(**{WRITES: True})
        self._file = sqlite_path(engine)
        self._file_id: tuple[int, int] | None = None
        self._is_prepared = False
        self._num_users = 0
        self._users = threading.Condition()
        self._probing = threading.Lock()
        self._trouble: Trouble | None = None

    @property
    def place(self) -> str:
        """How people are told which index this is."""
        return place_of(self._engine.url)

    @property
    def trouble(self) -> Trouble | None:
        """What is known to be wrong now."""
        return self._trouble

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the index.

        Raises: DatabaseTroubleError.
        """
        with self._in_use(writes=False), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction; the lock makes reading and then writing in it safe from other threads.

        Raises: DatabaseTroubleError.
        """
        with self.writing, self._in_use(writes=True), self._writer.begin() as connection:
            yield connection

    def require(self) -> None:
        """Let pass only while the index can be written, which is tried, and holds every run.

        Raises: DatabaseTroubleError.
        """
        if self._trouble is not None:
            raise DatabaseTroubleError(self._trouble)
        if not self.is_whole.is_set():
            raise DatabaseTroubleError(self._about(Fault.PARTIAL))
        with self.write() as connection:
            _try_write(connection)

    def probe(self) -> Trouble | None:
        """Try a write, and wait for no longer than a moment; what is wrong, if anything."""
        if not self._probing.acquire(timeout=PROBE_S):
            return Trouble(Fault.UNREACHABLE, self.place, f"no answer in {PROBE_S:g} s")
        try:
            if self._trouble is None and self._is_gone():
                self._note(self._about(Fault.LOST))
            if self._trouble is None:
                with self.writing.within(PROBE_S), self.write() as connection:
                    _try_write(connection)
        except DatabaseTroubleError as error:
            return error.trouble
        finally:
            self._probing.release()
        return self._trouble

    def is_well(self) -> bool:
        """Whether no trouble is known and the file is still there."""
        if self._trouble is None and self._is_gone():
            self._note(self._about(Fault.LOST))
        return self._trouble is None and self._is_prepared

    def heal(self) -> bool:
        """Try whether trouble is over, after rebuilding what must be; whether all is well now.

        For one thread, which has no connection in use and reads everything again from the index afterwards.
        """
        try:
            must_prepare = not self._is_prepared or (self._trouble is not None and self._trouble.needs_rebuilding)
            if must_prepare and not self._prepare():
                return False
            with self._writer.begin() as connection:
                _try_write(connection)
        except (SQLAlchemyError, OSError) as error:
            self._note(diagnose(error, self._engine.url) or self._about(Fault.OTHER, str(error)), replace=True)
            return False
        except DatabaseTroubleError as error:
            self._note(error.trouble, replace=True)
            return False
        if self._trouble is not None:
            log.info("the index %s is well again", self.place)
            self._trouble = None
        return True

    def rebuild(self) -> None:
        """Throw away what the index holds.

        Raises: DatabaseTroubleError.
        """
        try:
            if not self._prepare(""):
                raise DatabaseTroubleError(self._about(Fault.BUSY))
        except (SQLAlchemyError, OSError) as error:
            raise DatabaseTroubleError(
                diagnose(error, self._engine.url) or self._about(Fault.OTHER, str(error))
            ) from error

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def _prepare(self, why_anew: str | None = None) -> bool:
        """Make the index ready; False while connections are in use. None to the old file may outlive this: closed
        late, SQLite would remove the new one's log, which has the same name."""
        trouble = self._trouble
        if why_anew is None and self._is_prepared and trouble is not None:
            why_anew = "was deleted or replaced" if trouble.fault is Fault.LOST else f"is damaged ({trouble.said})"
        with self._users:
            if not self._users.wait_for(lambda: self._num_users == 0, DRAIN_S):
                return False
        prepare(self._engine, why_anew)
        self._is_prepared = True
        self._file_id = None if self._file is None else _identity(self._file)
        return True

    @contextmanager
    def _in_use(self, *, writes: bool) -> Iterator[None]:
        with self._users:
            trouble = self._trouble
            if trouble is not None and (writes or trouble.bars_reading or not self._is_prepared):
                raise DatabaseTroubleError(trouble)
            self._num_users += 1
        try:
            yield
        except SQLAlchemyError as error:
            found = diagnose(error, self._engine.url)
            if found is None:
                raise
            self._note(found)
            raise DatabaseTroubleError(found) from error
        finally:
            with self._users:
                self._num_users -= 1
                self._users.notify_all()

    def _note(self, trouble: Trouble, *, replace: bool = False) -> None:
        """Remember what is wrong; what can be cured by rebuilding outweighs the rest."""
        if trouble.fault is Fault.BUSY:
            return
        known = self._trouble
        if known is None or replace or (trouble.needs_rebuilding and not known.needs_rebuilding):
            self._trouble = trouble
        if known is None or known.fault is not trouble.fault:
            log.error("%s", trouble)

    def _about(self, fault: Fault, said: str = "") -> Trouble:
        return Trouble(fault, self.place, said)

    def _is_gone(self) -> bool:
        """Whether the file was deleted or replaced: SQLite itself goes on with the old one and notices nothing."""
        if self._file is None or self._file_id is None:
            return False
        try:
            return _identity(self._file) != self._file_id
        except FileNotFoundError:
            return True
        except OSError:
            return False  # whatever it is, a write will tell more


class _WriterLock:
    """Lets one thread at a time write, as often at once as it likes; waiting for it has an end."""

    def __init__(self, busy: Trouble) -> None:
        self._lock = threading.RLock()
        self._busy = busy

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """Hold it; wait so long for it at most.

        Raises: DatabaseTroubleError.
        """
        if not self._lock.acquire(timeout=timeout_s):
            raise DatabaseTroubleError(self._busy)
        try:
            yield
        finally:
            self._lock.release()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=WRITE_S):
            raise DatabaseTroubleError(self._busy)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def open_database(url: str) -> Database:
    """The index at `url`; one that is missing, of another version or damaged is begun anew. One that cannot be opened
    now is tried again by `heal`.

    Raises: ServeError for an address that will never do.
    """
    check_url(url)
    database = Database(make_engine(url))
    database.heal()
    trouble = database.trouble
    if trouble is not None and trouble.fault is Fault.FOREIGN:
        database.close()
        raise ServeError(str(trouble))
    return database


def _reader(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return engine  # every transaction of SQLite sees one moment
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _try_write(connection: Connection) -> None:
    connection.execute(meta.update().values(probe=meta.c.probe + 1))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino

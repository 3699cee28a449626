"""What can be wrong with the index, in words that name the cure."""

import os
import shutil
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from server.errors import HttpError

FULL_BYTES = 1 << 20
"""A disk with less than this free is full as far as a database is concerned."""


class Fault(StrEnum):
    """Kinds of trouble."""

    LOCKED = "locked"
    READ_ONLY = "read_only"
    FULL = "full"
    DAMAGED = "damaged"
    LOST = "lost"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    PARTIAL = "partial"
    FOREIGN = "foreign"
    OTHER = "other"


_WORDS = {
    Fault.LOCKED: "is locked by another program (a backup, or an open sqlite3 or psql); end that program",
    Fault.READ_ONLY: "cannot be written; let this server's user write the file and its folder, and mount its disk "
    "for writing",
    Fault.FULL: "has no room on its disk; free some space there",
    Fault.DAMAGED: "is damaged; it is being rebuilt from the run directories",
    Fault.LOST: "was deleted or replaced; it is being rebuilt from the run directories",
    Fault.UNREACHABLE: "cannot be reached; start the database, or correct XORON_DATABASE_URL",
    Fault.BUSY: "is busy; ask again",
    Fault.PARTIAL: "is still catching up with the run directories; ask again soon",
    Fault.FOREIGN: "holds tables of another program; name a database of its own in XORON_DATABASE_URL",
    Fault.OTHER: "fails; look into the server's log and at the disk",
}


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the index at `place`; `said` is the database's own word for it."""

    fault: Fault
    place: str
    said: str = ""

    @property
    def needs_rebuilding(self) -> bool:
        """Whether nothing in it is of use any more."""
        return self.fault in {Fault.DAMAGED, Fault.LOST}

    @property
    def bars_reading(self) -> bool:
        """Whether reading cannot work either."""
        return self.needs_rebuilding or self.fault is Fault.UNREACHABLE

    def __str__(self) -> str:
        if self.fault in {Fault.BUSY, Fault.PARTIAL}:
            return f"the index {_WORDS[self.fault]}"
        said = f" ({self.said})" if self.said else ""
        return f"the index {self.place} {_WORDS[self.fault]}{said}; runs go on, and the index catches up by itself then"


class DatabaseTroubleError(HttpError):
    """What was asked needs the index, and the index cannot be used now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


def place_of(url: URL) -> str:
    """How people are told which index is meant."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)


def diagnose(error: SQLAlchemyError | OSError, url: URL) -> Trouble | None:
    """What an error says about the index; None for one that is about the statement."""
    place = place_of(url)
    if isinstance(error, OSError):
        return Trouble(Fault.READ_ONLY, place, error.strerror or str(error))
    if isinstance(error, PoolTimeoutError):
        return Trouble(Fault.BUSY, place)
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    said = str(error.orig).strip().partition("\n")[0]
    fault = _sqlite_fault(error.orig, url) if isinstance(error.orig, sqlite3.Error) else _postgresql_fault(error)
    return None if fault is None else Trouble(fault, place, said)


_SQLITE = {
    sqlite3.SQLITE_PERM: Fault.READ_ONLY,
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_CANTOPEN: Fault.READ_ONLY,
    sqlite3.SQLITE_FORMAT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
}
_UNLIKE_TODAY = ("no such table", "no such column", "has no column named", "could not decode")


def _sqlite_fault(error: sqlite3.Error, url: URL) -> Fault | None:
    text = str(error).lower()
    if isinstance(error, sqlite3.OperationalError) and any(words in text for words in _UNLIKE_TODAY):
        return Fault.DAMAGED
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
        return None
    try:
        code = error.sqlite_errorcode
    except AttributeError:  # raised by Python's module itself, about how it was called
        return None
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return Fault.LOST
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        if _is_full(url):
            return Fault.FULL
        return Fault.OTHER if os.access(url.database or "", os.W_OK) else Fault.READ_ONLY
    return _SQLITE.get(code & 0xFF)


def _is_full(url: URL) -> bool:
    try:
        return shutil.disk_usage(Path(url.database or "").absolute().parent).free < FULL_BYTES
    except OSError:
        return False


_POSTGRESQL = {
    "25006": Fault.READ_ONLY,
    "40001": Fault.LOCKED,
    "40P01": Fault.LOCKED,
    "55P03": Fault.LOCKED,
    "57014": Fault.LOCKED,
    "53100": Fault.FULL,
    "42P01": Fault.DAMAGED,
    "42703": Fault.DAMAGED,
    "3F000": Fault.UNREACHABLE,
    "42501": Fault.READ_ONLY,
    "XX001": Fault.DAMAGED,
    "XX002": Fault.DAMAGED,
}
"""SQLSTATE → fault; https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_POSTGRESQL_CLASSES = {
    "08": Fault.UNREACHABLE,
    "28": Fault.UNREACHABLE,
    "3D": Fault.UNREACHABLE,
    "53": Fault.UNREACHABLE,
    "57": Fault.UNREACHABLE,
    "58": Fault.OTHER,
    "XX": Fault.OTHER,
}


def _postgresql_fault(error: DBAPIError) -> Fault | None:
    import psycopg

    if not isinstance(error.orig, psycopg.Error):
        return Fault.UNREACHABLE if error.connection_invalidated else None
    state = error.orig.sqlstate
    if state is None:
        return Fault.UNREACHABLE if isinstance(error.orig, psycopg.OperationalError) else None
    return _POSTGRESQL.get(state) or _POSTGRESQL_CLASSES.get(state[:2])

"""The index: a database that can be deleted at any time, since the run directories hold everything in it."""

from server.db.database import Database, open_database
from server.db.opening import check_url
from server.db.tables import CONTENT, PER_RUN, chunks, marks, meta, metadata, metric_keys, notes, runs
from server.db.trouble import DatabaseTroubleError, Fault, Trouble

__all__ = [
    "CONTENT",
    "PER_RUN",
    "Database",
    "DatabaseTroubleError",
    "Fault",
    "Trouble",
    "check_url",
    "chunks",
    "marks",
    "meta",
    "metadata",
    "metric_keys",
    "notes",
    "open_database",
    "runs",
]

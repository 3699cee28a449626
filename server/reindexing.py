"""Building the index anew from the run directories, without a server."""

import time
from dataclasses import dataclass

from server.db import DatabaseTroubleError, open_database
from server.errors import ServeError
from server.metrics.ingest import Ingest, Listeners
from server.runs import store
from server.runs.children import Children
from server.runs.index import RunIndex
from server.settings import Settings
from xoron_core.contract.home import Home, ServerLock

DRAIN_S = 0.1


@dataclass(frozen=True)
class Reindexed:
    """What was found: `unreadable` is run → why it, or a part of it, is not in the index."""

    index: str
    runs: int
    events: int
    malformed_events: int
    unreadable: dict[str, str]
    seconds: float


def reindex(settings: Settings) -> Reindexed:
    """Throw the index of a home away and fill a new one.

    Raises: RunDirectoryError when a server has the home; ServeError when the index cannot be written.
    """
    begun = time.monotonic()
    home = Home(settings.home)
    home.prepare()
    lock = ServerLock(home)
    try:
        database = open_database(settings.index_url)
        try:
            database.rebuild()
            index = RunIndex(home, database, Children())
            unreadable = _fill(index)
            with database.read() as connection:
                rows = [row for run_id in store.ids(connection) if (row := store.get(connection, run_id)) is not None]
        except DatabaseTroubleError as error:
            raise ServeError(str(error)) from error
        finally:
            database.close()
    finally:
        lock.release()
    return Reindexed(
        index=database.place,
        runs=len(rows),
        events=sum(row.facts.last_seq for row in rows),
        malformed_events=sum(row.facts.num_malformed for row in rows),
        unreadable=unreadable,
        seconds=time.monotonic() - begun,
    )


def _fill(index: RunIndex) -> dict[str, str]:
    """Read every run to its end.

    Raises: DatabaseTroubleError.
    """
    ingest = Ingest(index, Listeners())
    ingest.start()
    try:
        while not ingest.has_caught_up.wait(DRAIN_S):
            if (trouble := index.database.trouble) is not None:
                raise DatabaseTroubleError(trouble)
            if not ingest.is_alive:
                raise ServeError("the thread that reads events has died; the lines above say why")
        for run_id in index.known():
            ingest.catch_up(run_id, timeout_s=600)
    finally:
        ingest.close()
    return ingest.problems

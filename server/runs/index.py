"""The rows of the index, kept true to the run directories and announced when they change."""

import logging
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from server.db import Database
from server.errors import NotFoundError
from server.runs import store
from server.runs.attempts import newest_config
from server.runs.children import Children
from server.runs.facts import RunFacts
from server.runs.store import RunRow
from xoron_core.contract.derive import derive_state, keeper_is_alive
from xoron_core.contract.errors import RunDirectoryError, XoronError
from xoron_core.contract.home import Home
from xoron_core.contract.run_directory import RunDirectory, RunRecord
from xoron_core.contract.states import RunState
from xoron_core.contract.tailer import Cursor

log = logging.getLogger(__name__)


class RunIndex:
    """Reads and refreshes rows; `on_change` is told of each that changed, `on_refresh` when that came
    from elsewhere than events, `on_remove` of each that went."""

    def __init__(self, home: Home, database: Database, children: Children) -> None:
        self.home = home
        self.database = database
        self.children = children
        self.on_change: list[Callable[[RunRow], None]] = []
        self.on_refresh: list[Callable[[str], None]] = []
        self.on_remove: list[Callable[[str], None]] = []

    def directory(self, run_id: str) -> RunDirectory:
        """The run's directory.

        Raises: NotFoundError when there is none.
        """
        try:
            return self.home.run(run_id)
        except RunDirectoryError as error:
            raise NotFoundError(str(error)) from error

    def row(self, run_id: str) -> RunRow:
        """The run's row; a run that appeared on disk since the last look is taken in.

        Raises: NotFoundError when there is none.
        """
        with self.database.read() as connection:
            row = store.get(connection, run_id)
        return self.refresh(run_id) if row is None else row

    def refresh(self, run_id: str) -> RunRow:
        """Read the run's small files again; a run that the index does not know is taken in.

        Raises: NotFoundError when there is none; RunDirectoryError when its files are malformed.
        """
        run = self.directory(run_id)
        record = run.record()
        with self.database.writing:  # held until the change is announced, so that announcements keep their order
            with self.database.write() as connection:
                old = store.get(connection, run_id)
                facts, cursor = (RunFacts(), Cursor()) if old is None else (old.facts, old.cursor)
                new = self._derive(run, record, facts, cursor, old)
                if new != old:
                    store.save(connection, new)
            if new != old:
                self.announce(new)
        if new != old:
            for tell in self.on_refresh:
                tell(run_id)
        return new

    def known(self) -> list[str]:
        """The runs that the index has."""
        with self.database.read() as connection:
            return store.ids(connection)

    def advance(self, connection: Connection, run_id: str, facts: RunFacts, cursor: Cursor) -> RunRow | None:
        """Save what new events said, within the caller's transaction; None when the run went meanwhile."""
        old = store.get(connection, run_id)
        if old is None:
            return None
        has_new_state = old.facts.state != facts.state
        new = replace(old, facts=facts, cursor=cursor)
        if has_new_state or old.state is not RunState.RUNNING:
            new = self._derive(self.directory(run_id), old.record, facts, cursor, old)
        store.save(connection, new)
        return new

    def announce(self, row: RunRow) -> None:
        """Tell whoever wants to know."""
        for tell in self.on_change:
            tell(row)

    def remove(self, run_id: str) -> None:
        """Forget a run."""
        with self.database.write() as connection:
            store.remove(connection, run_id)
        for tell in self.on_remove:
            tell(run_id)

    def _derive(
        self, run: RunDirectory, record: RunRecord, facts: RunFacts, cursor: Cursor, old: RunRow | None
    ) -> RunRow:
        last = facts.last_state()
        attempt = record.attempt if last is None else max(record.attempt, last.attempt)
        has_begun = run.attempt_file(attempt).exists()
        alive = self.children.is_alive(run.id, attempt) or keeper_is_alive(run, attempt)
        state = derive_state(record, last, has_begun=has_begun, keeper_alive=alive)
        if old is not None and old.attempt == attempt and old.state is not RunState.QUEUED:
            max_steps = old.max_steps
        else:
            max_steps = self._max_steps(run, attempt)
        return RunRow(record, facts, state, max_steps, cursor)

    def _max_steps(self, run: RunDirectory, attempt: int) -> int | None:
        """Steps at which the run is complete, from the newest attempt's configuration."""
        try:
            return newest_config(run, attempt).training.max_steps
        except XoronError as error:
            log.warning("the configuration of %s cannot be read: %s", run.id, error)
            return None

"""The rows of the index, kept true to the run directories and announced when they change."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from server.db import Database, DatabaseTroubleError
from server.errors import NotFoundError
from server.runs import leftovers, store
from server.runs.attempts import newest_config
from server.runs.children import Children
from server.runs.facts import RunFacts, StateFact, typed
from server.runs.keeping.ending import last_state
from server.runs.standing import Standing, asked, line_of
from server.runs.store import RunRow
from xoron_core.contract.derive import LastState, derive_state, keeper_is_alive
from xoron_core.contract.errors import RunDirectoryError, XoronError
from xoron_core.contract.home import Home
from xoron_core.contract.run_directory import RunDirectory, RunRecord
from xoron_core.contract.states import RunState
from xoron_core.contract.tailer import Cursor, EventTailer

log = logging.getLogger(__name__)

_GLANCE_BYTES = 1 << 16
_BEFORE = {RunState.QUEUED: RunState.STARTING}
_ENDED_IN_THE_QUEUE = {RunState.PAUSED, RunState.STOPPED, RunState.CANCELLED}


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
        self._last: dict[str, RunRow] = {}

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
        with self.database.writing:  # held from the look at the files on: an older look must not replace a later one
            run = self.directory(run_id)
            record = run.record()
            if record.id != run_id:
                raise RunDirectoryError(
                    f"{run.run_file} is that of run {record.id}: a copy must keep the name of its folder"
                )
            with self.database.write() as connection:
                old = store.get(connection, run_id)
                facts, cursor = (RunFacts(), Cursor()) if old is None else (old.facts, old.cursor)
                new = self._derive(run, record, facts, cursor, old)
                if new != old:
                    store.save(connection, new)
            if new != old:
                self.announce(new)
        self._last[run_id] = new
        if new != old:
            for tell in self.on_refresh:
                tell(run_id)
        return new

    def look(self, run_id: str) -> RunRow:
        """As `refresh`, but while the index cannot be used, what the files say beside what was known last.

        Raises: NotFoundError; RunDirectoryError.
        """
        try:
            return self.refresh(run_id)
        except DatabaseTroubleError:
            run, old = self.directory(run_id), self._last.get(run_id)
            if old is None:
                return self._derive(run, run.record(), _state_alone(run), Cursor(), None)
            return self._derive(run, run.record(), _read_on(run, old), old.cursor, old)

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
        self._last[row.id] = row
        for tell in self.on_change:
            tell(row)

    def forget_events(self, run_id: str) -> None:
        """Forget what a run said; its events are read from the beginning then. Its state stays until they are."""
        with self.database.writing:
            with self.database.write() as connection:
                old = store.get(connection, run_id)
                if old is None:
                    return
                new = replace(old, facts=RunFacts(), cursor=Cursor())
                store.forget_events(connection, run_id)
                store.save(connection, new)
            self.announce(new)

    def remove(self, run_id: str) -> None:
        """Forget a run."""
        with self.database.write() as connection:
            store.remove(connection, run_id)
        self._last.pop(run_id, None)
        for tell in self.on_remove:
            tell(run_id)

    def stand(self, run_id: str, state: RunState, **standing: Any) -> None:
        """Note what was found out about a run, unless it has left that state meanwhile."""
        with self.database.writing:
            with self.database.write() as connection:
                old = store.get(connection, run_id)
                if old is None or old.state is not state:
                    return
                new = replace(old, standing=old.standing.model_copy(update=standing))
                if new == old:
                    return
                store.save(connection, new)
            self.announce(new)

    def _derive(
        self, run: RunDirectory, record: RunRecord, facts: RunFacts, cursor: Cursor, old: RunRow | None
    ) -> RunRow:
        last = facts.last_state()
        state, attempt = self._state(run, record, last)
        if state is RunState.INTERRUPTED and has_unread(run, cursor):  # how it ended is written, and about to be read
            if old is None:
                state, _ = self._state(run, record, last_state(run.path))
            else:
                state = _BEFORE.get(old.state, old.state)
        if old is not None and old.attempt == attempt and old.state is not RunState.QUEUED:
            max_steps = old.max_steps
        else:
            max_steps = self._max_steps(run, attempt)
        return RunRow(record, facts, state, max_steps, cursor, self._stand(run, record, facts, state, attempt, old))

    def _state(self, run: RunDirectory, record: RunRecord, last: LastState | None) -> tuple[RunState, int]:
        """The state, and the newest attempt."""
        attempt = record.attempt if last is None else max(record.attempt, last.attempt)
        has_begun = run.attempt_file(attempt).exists()
        alive = self.children.is_alive(run.id, attempt) or keeper_is_alive(run, attempt)
        state = derive_state(record, last, has_begun=has_begun, keeper_alive=alive)
        if not has_begun and state in _ENDED_IN_THE_QUEUE and leftovers.has_leftovers(run):
            state = RunState.QUEUED  # it has ended when the processes of the attempt before are gone, and not earlier
        return state, attempt

    def _stand(
        self, run: RunDirectory, record: RunRecord, facts: RunFacts, state: RunState, attempt: int, old: RunRow | None
    ) -> Standing:
        known = Standing() if old is None else old.standing
        is_same = old is not None and (old.record.attempt, old.record.resumed_by) == (record.attempt, record.resumed_by)
        line = known.line if is_same else line_of(run, record)
        is_at_rest = old is not None and old.state is state and old.attempt == attempt
        return Standing(
            line=line,
            waiting=known.waiting if is_at_rest and state is RunState.QUEUED else None,
            asked=asked(run, state, facts, line, attempt, known.asked),
            why=known.why if is_at_rest and state is RunState.INTERRUPTED else None,
        )

    def _max_steps(self, run: RunDirectory, attempt: int) -> int | None:
        """Steps at which the run is complete, from the newest attempt's configuration."""
        try:
            return newest_config(run, attempt).training.max_steps
        except XoronError as error:
            log.warning("the configuration of %s cannot be read: %s", run.id, error)
            return None


def _state_alone(run: RunDirectory) -> RunFacts:
    """The facts that a state is derived from; all others would have to be added up from the first event on."""
    last = last_state(run.path)
    if last is None:
        return RunFacts()
    return RunFacts(state=StateFact(state=last.state, attempt=last.attempt, time=last.time, reason=last.reason))


def _read_on(run: RunDirectory, row: RunRow) -> RunFacts:
    """A row's facts with the states that the run went through since."""
    facts = row.facts.model_copy(deep=True)
    with EventTailer(run.path, row.cursor) as tailer:
        while records := tailer.poll():
            for record in records:
                stamp, event = (record["kind"] == "state" and typed(record)) or (None, None)
                if stamp is not None and event is not None:
                    facts.add(stamp, event)
    return facts


def has_unread(run: RunDirectory, cursor: Cursor) -> bool:
    """Whether the run has said something else than the index knows."""
    with EventTailer(run.path, cursor) as tailer:
        return bool(tailer.poll(_GLANCE_BYTES)) or tailer.is_displaced

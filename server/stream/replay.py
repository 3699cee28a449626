"""Reading a run's events from disk, from any number on."""

import threading
from typing import Any

from sqlalchemy import select

from server import db
from server.db import Database, DatabaseTroubleError
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.tailer import Cursor, EventTailer


class Replay:
    """Reads a run's records after `seq`; to be used from worker threads, one call at a time."""

    def __init__(self, database: Database, run: RunDirectory, seq: int) -> None:
        self._database = database
        self._run = run
        self._seq = seq
        self._tailer: EventTailer | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def read(self, max_bytes: int) -> list[dict[str, Any]]:
        """The next records, some of them; empty at the end of what is written, and once closed."""
        with self._lock:
            if self._is_closed:
                return []
            if self._tailer is None:
                self._tailer = self._open()
            while records := self._tailer.poll(max_bytes):
                wanted = [record for record in records if record["seq"] > self._seq]
                if wanted:
                    return wanted
            return []

    def _open(self) -> EventTailer:
        """Not far before the first record wanted: the index has noted places, so that nothing is searched for long."""
        marks = db.marks.c
        statement = (
            select(marks.seq, marks.first_seq, marks.offset)
            .where(marks.run_id == self._run.id, marks.seq <= self._seq)
            .order_by(marks.seq.desc())
            .limit(1)
        )
        try:
            with self._database.read() as connection:
                row = connection.execute(statement).one_or_none()
        except DatabaseTroubleError:  # then it is searched for from the beginning
            row = None
        return EventTailer(self._run.path, Cursor() if row is None else Cursor(row.seq, row.first_seq, row.offset))

    def close(self) -> None:
        """Let go of the file, once a read that is under way is through."""
        with self._lock:
            self._is_closed = True
            if self._tailer is not None:
                self._tailer.close()

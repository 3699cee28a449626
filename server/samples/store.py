"""SQL about events that are kept whole: samples and checkpoints."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from server import db


def add(connection: Connection, run_id: str, records: list[dict[str, Any]]) -> None:
    """Keep events of a run."""
    for record in records:
        step = record.get("step")
        connection.execute(
            db.notes.insert().values(
                run_id=run_id,
                seq=record["seq"],
                kind=record["kind"],
                attempt=record["attempt"],
                step=step if isinstance(step, int) else 0,
                event=json.dumps(record, ensure_ascii=False),
            )
        )


def read(connection: Connection, run_id: str, kind: str, cuts: Mapping[int, int]) -> list[dict[str, Any]]:
    """The kept events of a kind in order, without those that a later attempt replaced."""
    here = db.notes.c.run_id == run_id, db.notes.c.kind == kind
    rows = connection.execute(select(db.notes).where(*here).order_by(db.notes.c.seq))
    return [json.loads(row.event) for row in rows if row.attempt not in cuts or row.step <= cuts[row.attempt]]

"""REST about the runs that wait."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends

from server.runs import store
from server.runs.store import RunRow
from server.runs.view import view
from server.services import Services, services
from xoron_core.contract.api import Queue, QueueOrder, Run, Waiting

router = APIRouter(prefix="/queue", tags=["queue"])
Opened = Annotated[Services, Depends(services)]


@router.get("")
def show_queue(opened: Opened) -> Queue:
    """The runs that wait, the next one first, and what takes the slots."""
    return _queue(opened, opened.runs.queue())


@router.put("")
def reorder_queue(body: QueueOrder, opened: Opened) -> Queue:
    """Let waiting runs exchange their places, so that they stand in the order given."""
    return _queue(opened, opened.runs.reorder(body))


def _queue(opened: Services, waiting: Sequence[RunRow]) -> Queue:
    with opened.database.read() as connection:
        live = store.live_ids(connection)
    kept = [run_id for run_id in opened.dispatcher.kept_slots if run_id not in live]
    return Queue(
        items=[_at(row, position) for position, row in enumerate(waiting, start=1)],
        live=[*live, *kept],
        max_runs=opened.settings.max_runs,
        gpus=opened.pool.shown(),
    )


def _at(row: RunRow, position: int) -> Run:
    """The row at its place in this very list; what the scheduler saw last may be of a moment before."""
    run = view(row)
    reason = "has just come" if run.waiting is None else run.waiting.reason
    return run.model_copy(update={"waiting": Waiting(position=position, reason=reason)})

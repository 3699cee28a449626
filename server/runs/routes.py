"""REST about runs: requests are parsed and answers shaped here, the service decides."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from server.runs import store
from server.runs.attempts import newest_config
from server.runs.logs import read_log
from server.runs.plausible import MAX_INTEGER
from server.runs.view import view
from server.services import Services, services
from server.stream.replay import Replay
from xoron_core.contract.api import (
    CreateRun,
    EventPage,
    LogPage,
    PatchRun,
    ResumeRun,
    Run,
    RunCommand,
    RunPage,
    StopRun,
)
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.states import RunState

router = APIRouter(prefix="/runs", tags=["runs"])
Opened = Annotated[Services, Depends(services)]
READ_BYTES = 1 << 20


@router.post("", status_code=201, responses={200: {"model": Run, "description": "The same request came before."}})
def create_run(
    body: CreateRun,
    response: Response,
    opened: Opened,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Run:
    """Create a run and put it into the queue."""
    row, is_new = opened.runs.create(body, idempotency_key)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/v1/runs/{row.id}"
    return view(row)


@router.get("")
def list_runs(
    opened: Opened,
    state: Annotated[list[RunState] | None, Query()] = None,
    tag: Annotated[list[str] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> RunPage:
    """Runs, the newest first."""
    with opened.database.read() as connection:
        rows, next_cursor = store.page(connection, state or [], tag or [], limit, cursor)
    return RunPage(items=[view(row) for row in rows], next_cursor=next_cursor)


@router.get("/{run_id}")
def show_run(run_id: str, opened: Opened) -> Run:
    """One run."""
    return view(opened.index.row(run_id))


@router.patch("/{run_id}")
def patch_run(run_id: str, body: PatchRun, opened: Opened) -> Run:
    """Change a run's name, tags or priority."""
    return view(opened.runs.patch(run_id, body))


@router.delete("/{run_id}", status_code=204)
def delete_run(run_id: str, opened: Opened) -> Response:
    """Move a run that has ended to the trash."""
    opened.runs.delete(run_id)
    return Response(status_code=204)


@router.post("/{run_id}/restore")
def restore_run(run_id: str, opened: Opened) -> Run:
    """Bring a deleted run back."""
    return view(opened.runs.restore(run_id))


@router.post("/{run_id}/stop", status_code=202)
def stop_run(run_id: str, opened: Opened, body: StopRun | None = None) -> Run:
    """End a run after a checkpoint."""
    return view(opened.runs.stop(run_id, body or StopRun()))


@router.post("/{run_id}/pause", status_code=202)
def pause_run(run_id: str, opened: Opened, body: RunCommand | None = None) -> Run:
    """Checkpoint and let the machine go; the place in the queue is kept."""
    return view(opened.runs.pause(run_id, body or RunCommand()))


@router.post("/{run_id}/resume", status_code=202)
def resume_run(run_id: str, opened: Opened, body: ResumeRun | None = None) -> Run:
    """Go on from a checkpoint."""
    return view(opened.runs.resume(run_id, body or ResumeRun()))


@router.post("/{run_id}/cancel", status_code=202)
def cancel_run(run_id: str, opened: Opened, body: RunCommand | None = None) -> Run:
    """End a run for good."""
    return view(opened.runs.cancel(run_id, body or RunCommand()))


@router.post("/{run_id}/checkpoint", status_code=202)
def request_checkpoint(run_id: str, opened: Opened, body: RunCommand | None = None) -> Run:
    """Ask for a checkpoint now."""
    return view(opened.runs.request(run_id, CommandKind.CHECKPOINT, body or RunCommand()))


@router.post("/{run_id}/sample", status_code=202)
def request_sample(run_id: str, opened: Opened, body: RunCommand | None = None) -> Run:
    """Ask for samples now."""
    return view(opened.runs.request(run_id, CommandKind.SAMPLE, body or RunCommand()))


@router.get("/{run_id}/config")
def show_config(run_id: str, opened: Opened) -> dict[str, Any]:
    """The configuration of the newest attempt, resolved."""
    row = opened.index.row(run_id)
    return newest_config(opened.index.directory(run_id), row.attempt).to_dict()


@router.get("/{run_id}/events")
def list_events(
    run_id: str,
    opened: Opened,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
    kinds: Annotated[str | None, Query(description="Separated by commas; none: all.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> EventPage:
    """What a run said after an event."""
    wanted = set(kinds.split(",")) if kinds else None
    replay = Replay(opened.database, opened.index.directory(run_id), after)
    items: list[dict[str, Any]] = []
    last_seq = after
    try:
        while len(items) < limit and (records := replay.read(READ_BYTES)):
            for record in records:
                last_seq = record["seq"]
                if wanted is None or record.get("kind") in wanted:
                    items.append(record)
                    if len(items) == limit:
                        break
    finally:
        replay.close()
    return EventPage(items=items, last_seq=last_seq)


@router.get("/{run_id}/logs")
def read_logs(
    run_id: str,
    opened: Opened,
    after: Annotated[int | None, Query(ge=0, le=MAX_INTEGER, description="Byte to begin at.")] = None,
    tail: Annotated[int, Query(ge=1, le=5000, description="Last lines, where `after` is not given.")] = 200,
) -> LogPage:
    """What the trainer printed."""
    return read_log(opened.index.directory(run_id).log_file, after, tail)

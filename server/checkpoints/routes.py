"""REST about checkpoints."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from server.checkpoints.scan import complete, size
from server.samples import store
from server.services import Services, services
from xoron_core.contract import clock
from xoron_core.contract.api import Checkpoint, CheckpointPage

router = APIRouter(prefix="/runs/{run_id}/checkpoints", tags=["checkpoints"])
Opened = Annotated[Services, Depends(services)]


@router.get("")
def list_checkpoints(run_id: str, opened: Opened) -> CheckpointPage:
    """The complete checkpoints that are on disk, in order."""
    run, row = opened.index.directory(run_id), opened.index.row(run_id)
    with opened.database.read() as connection:
        told: dict[int, dict[str, Any]] = {
            record["step"]: record for record in store.read(connection, run_id, "checkpoint", {})
        }
    items = []
    for step, folder in complete(run).items():
        record = told.get(step)
        written = datetime.fromtimestamp((folder / "manifest.json").stat().st_mtime, UTC)
        items.append(
            Checkpoint(
                step=step,
                path=str(folder.relative_to(run.path)),
                bytes=size(folder),
                created_at=clock.format_time(written),
                attempt=row.attempt if record is None else record["attempt"],
            )
        )
    return CheckpointPage(items=items)

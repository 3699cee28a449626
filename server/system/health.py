"""Whether the server is well; for machines, at the root."""

import os
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from server.errors import HttpError
from server.services import Services, services

router = APIRouter(tags=["health"])
Opened = Annotated[Services, Depends(services)]


class NotReadyError(HttpError):
    """The server cannot do its work."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(opened: Opened) -> dict[str, Any]:
    """Every part works; the index is tried by a write. Runs that cannot be read hold up nothing, and are named."""
    troubles = []
    trouble = opened.database.probe()
    if trouble is not None:
        troubles.append(str(trouble))
    if not opened.ingest.is_alive:
        troubles.append("the thread that reads events has died; restart the server")
    elif trouble is None and not opened.ingest.has_caught_up.is_set():
        troubles.append("the index is still catching up with the run directories")
    if not opened.scheduler.is_alive:
        troubles.append("the thread that launches runs has died; restart the server")
    if not os.access(opened.home.runs, os.W_OK):
        troubles.append("the home cannot be written")
    if troubles:
        raise NotReadyError("; ".join(troubles))
    return {"status": "ready", "unreadable_runs": opened.ingest.problems}

"""REST about samples: their list, and the files."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse

from server.errors import NotFoundError
from server.files import is_file
from server.samples import store
from server.services import Services, services
from xoron_core.contract.api import Sample, SamplePage
from xoron_core.contract.errors import RunDirectoryError

router = APIRouter(prefix="/runs/{run_id}/samples", tags=["samples"])
Opened = Annotated[Services, Depends(services)]

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}
"""What a browser may show; anything else is bytes to be saved."""


@router.get("")
def list_samples(run_id: str, opened: Opened) -> SamplePage:
    """What the model made, in order."""
    row = opened.index.row(run_id)
    with opened.database.read() as connection:
        records = store.read(connection, run_id, "sample", row.facts.cuts())
    newest = {record["path"]: record for record in records}
    return SamplePage(
        items=[Sample(**{name: record.get(name) for name in Sample.model_fields}) for record in newest.values()]
    )


@router.get("/{path:path}", response_class=FileResponse)
def show_sample(run_id: str, path: str, opened: Opened) -> FileResponse:
    """One file; ranges are possible."""
    run = opened.index.directory(run_id)
    missing = NotFoundError(f"run {run_id} has no sample {path!r}")
    try:
        file = run.inside(f"samples/{path}")
    except (RunDirectoryError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise missing from error
    if not file.is_relative_to(run.samples.resolve()) or not is_file(file):
        raise missing
    return FileResponse(
        file,
        media_type=MEDIA_TYPES.get(file.suffix, "application/octet-stream"),
        content_disposition_type="inline" if file.suffix in MEDIA_TYPES else "attachment",
        filename=Path(path).name,
        headers={"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=60"},
    )

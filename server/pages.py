"""The web page, as `web/` built it into `server/static/`."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse, Response

from server.errors import NotFoundError
from server.files import is_file

STATIC = Path(__file__).parent / "static"
NOT_BUILT = (
    "The page is not built yet. Run `make setup` in the project's folder; the API under /api/v1 works without.\n"
)

router = APIRouter(include_in_schema=False)


@router.api_route("/{path:path}", methods=["GET", "HEAD"])
def show_page(path: str) -> Response:
    """A file of the build; the page itself at `/` and at every address that the page makes up."""
    if path.startswith("api/"):
        raise NotFoundError(f"there is nothing at /{path}")
    index = STATIC / "index.html"
    if not index.is_file():
        return PlainTextResponse(NOT_BUILT, status_code=503)
    if path and "\0" not in path:
        file = (STATIC / path).resolve()
        if file.is_relative_to(STATIC.resolve()) and is_file(file):
            is_hashed = path.startswith("assets/")
            cache = "public, max-age=31536000, immutable" if is_hashed else "no-cache"
            return FileResponse(file, headers={"Cache-Control": cache})
    if "." in path.rpartition("/")[2]:
        raise NotFoundError(f"there is nothing at /{path}")
    return FileResponse(index, headers={"Cache-Control": "no-cache"})

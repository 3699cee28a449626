"""Every error as `application/problem+json` (RFC 9457): what is wrong, where, and what to do about it."""

import json
import logging
from http import HTTPStatus
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from xoron_core.contract.api import ApiModel, Problem, ProblemField
from xoron_core.contract.config.section import unknown_key
from xoron_core.contract.errors import ConfigError, FieldProblem, StateError, XoronError

log = logging.getLogger(__name__)

MAX_SHOWN_VALUE = 200


class ServeError(XoronError):
    """The server cannot start; the message says what to change."""


class HttpError(XoronError):
    """An answer with a status of its own."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class NotFoundError(HttpError):
    """There is no such thing."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(HttpError):
    """The run, or something else, is not in the state that this asks for."""

    status = HTTPStatus.CONFLICT


class DiskFullError(HttpError):
    """Too little space to start anything."""

    status = HTTPStatus.INSUFFICIENT_STORAGE


class ProblemResponse(JSONResponse):
    """A problem on its way out."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """As JSON; half a character that was sent, and UTF-8 has no form for, stays the escape that it was."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def problem(
    status: int, detail: str, errors: list[ProblemField] | None = None, headers: dict[str, str] | None = None
) -> ProblemResponse:
    """The response that tells a problem."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    return ProblemResponse(body.model_dump(mode="json"), status_code=status, headers=headers)


def problem_fields(problems: list[FieldProblem]) -> list[ProblemField]:
    """Fields at fault, with values that JSON can carry."""
    return [ProblemField(field=one.field, message=one.message, value=_shown(one.value)) for one in problems]


def _shown(value: Any) -> Any:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)[:MAX_SHOWN_VALUE]
    return value if len(text) <= MAX_SHOWN_VALUE else text[:MAX_SHOWN_VALUE]


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as a problem."""

    @app.exception_handler(HttpError)
    async def _http(_: Request, error: HttpError) -> ProblemResponse:
        return problem(error.status, str(error))

    @app.exception_handler(ConfigError)
    async def _config(_: Request, error: ConfigError) -> ProblemResponse:
        return problem(422, str(error), problem_fields(error.problems))

    @app.exception_handler(StateError)
    async def _state(_: Request, error: StateError) -> ProblemResponse:
        return problem(409, str(error))

    @app.exception_handler(RequestValidationError)
    async def _request(request: Request, error: RequestValidationError) -> ProblemResponse:
        fields = [_request_field(request, dict(one)) for one in error.errors()]
        detail = "; ".join(f"{one.field or '(body)'}: {one.message}" for one in fields)
        return problem(422, detail, fields)

    @app.exception_handler(HTTPException)
    async def _starlette(request: Request, error: HTTPException) -> ProblemResponse:
        detail = error.detail
        if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
            detail = f"there is nothing at {request.url.path}"
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not possible at {request.url.path}"
        return problem(error.status_code, detail, headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _last_resort(request: Request, error: Exception) -> ProblemResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, f"the server failed on this request ({type(error).__name__}); its log has the details")


def _request_field(request: Request, details: dict[str, Any]) -> ProblemField:
    loc = [str(part) for part in details["loc"]]
    where = ".".join(loc[1:] if loc and loc[0] in {"body", "query", "path", "header"} else loc)
    if details["type"] == "extra_forbidden":
        return ProblemField(field=where, message=unknown_key(loc[-1], _body_keys(request)))
    message = str(details["msg"])
    if details["type"] == "json_invalid":
        return ProblemField(field="", message=f"the body is not JSON: {details['ctx']['error']}")
    return ProblemField(field=where, message=message[0].lower() + message[1:], value=_shown(details.get("input")))


def _body_keys(request: Request) -> list[str]:
    """The fields of the body that the called endpoint takes."""
    hints = get_type_hints(request.scope["endpoint"])
    bodies = [hint for hint in hints.values() if isinstance(hint, type) and issubclass(hint, ApiModel)]
    return sorted({key for body in bodies for key in body.model_fields})

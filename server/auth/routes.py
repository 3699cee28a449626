"""Coming in and going out: the token for a cookie."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from server.auth.sessions import COOKIE, SESSION_S
from server.errors import HttpError
from server.services import Services, services
from xoron_core.contract.api import ApiModel

router = APIRouter(tags=["session"])
Opened = Annotated[Services, Depends(services)]


class OpenSession(ApiModel):
    """`POST /session`."""

    token: str = Field(max_length=1000, repr=False)


class WrongTokenError(HttpError):
    """Somebody does not know the token."""

    status = HTTPStatus.UNAUTHORIZED


@router.post("/session", status_code=204)
def open_session(body: OpenSession, request: Request, opened: Opened) -> Response:
    """Trade the token for a session cookie, which scripts on the page cannot read."""
    if not opened.sessions.knows(body.token):
        raise WrongTokenError("that is not this server's token; it is what XORON_TOKEN was set to at its start")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        opened.sessions.issue(),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.delete("/session", status_code=204)
def close_session() -> Response:
    """Forget the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response

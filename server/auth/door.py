"""The outermost layer: who is let in, asked before any route runs or a WebSocket is accepted."""

import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.auth.sessions import COOKIE, Sessions
from server.errors import problem
from server.settings import LOOPBACK_NAMES, WILDCARDS, Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/api/v1/session", "/healthz", "/readyz"})
API = "/api/"

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Door:
    """Pure ASGI: Host against DNS rebinding, Origin against foreign pages, then the token where there is one."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._sessions = Sessions.of(settings.token)
        names = {name.strip().lower() for name in settings.allowed_hosts.split(",")} - {""}
        self._is_wildcard = settings.host in WILDCARDS
        if self._is_wildcard:
            names.add(socket.gethostname().lower())
        else:
            names.add(settings.host.lower())
        self._names = names | LOOPBACK_NAMES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or turn away."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await _deny(scope, receive, send, *refusal)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                _secure(message, scope["path"])
            await send(message)

        if refusal is None:
            await self._app(scope, receive, send_secured)
        else:
            await _refuse(scope, receive, send_secured, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_name(_hostname(host)):
            return 403, f"Host {host!r} is not a name of this server; add it to XORON_ALLOWED_HOSTS if it should be"
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            if origin is not None and _place(origin) != host.lower():
                return 403, f"Origin {origin!r} is not this server's; requests from other sites' pages are refused"
            if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
                return 403, "requests from other sites' pages are refused"
        if self._needs_token(scope["path"]) and not self._has_token(headers):
            return 401, "a token is needed: send `Authorization: Bearer TOKEN`, or POST it to /api/v1/session"
        return None

    def _is_own_name(self, name: str | None) -> bool:
        if name is None:
            return False
        return name in self._names or (self._is_wildcard and _is_address(name))

    def _needs_token(self, path: str) -> bool:
        return self._sessions.token is not None and path.startswith(API) and path not in OPEN_PATHS

    def _has_token(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._sessions.knows(token.strip()):
            return True
        cookie = _cookie(headers.get("cookie", ""))
        return cookie is not None and self._sessions.accepts(cookie)


def _hostname(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None when it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query:
        return None
    return parts.hostname


def _place(origin: str) -> str | None:
    """Host and port of an Origin header; None when it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    """Whether it is an IP address: DNS rebinding needs a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(header: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def _secure(message: Message, path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    if path.startswith(API):
        headers.setdefault("Cache-Control", "no-store")


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    await problem(status, detail, headers=headers)(scope, receive, send)


async def _deny(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    """Answer the handshake of a WebSocket with a problem, never accepting it."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await _refuse(scope, receive, send, status, detail)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": detail[:100]})

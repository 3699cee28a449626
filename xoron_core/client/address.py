"""Where a server is."""

from urllib.parse import urlsplit

from xoron_core.client.errors import XoronConnectionError


def is_local(url: str) -> bool:
    """Whether `url` names this machine; no proxy stands in between then."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in {"localhost", "::1"} or host.startswith("127.")


def checked(url: str) -> str:
    """`url` without a closing slash.

    Raises: XoronConnectionError when it is no address of a server.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        is_address = False
    if not is_address:
        raise XoronConnectionError(f"{url!r} is not an address; write it like http://127.0.0.1:8000")
    return url.rstrip("/")

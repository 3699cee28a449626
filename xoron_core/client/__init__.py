"""A typed client of the REST and WebSocket API."""

from xoron_core.client.client import DEFAULT_URL, XoronClient
from xoron_core.client.errors import (
    WaitEndedError,
    WaitTimeoutError,
    XoronApiError,
    XoronClientError,
    XoronConnectionError,
)

__all__ = [
    "DEFAULT_URL",
    "WaitEndedError",
    "WaitTimeoutError",
    "XoronApiError",
    "XoronClient",
    "XoronClientError",
    "XoronConnectionError",
]

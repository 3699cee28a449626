"""A run's WebSocket as an iterator of frames."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import connect

from xoron_core.client.address import is_local
from xoron_core.client.errors import XoronApiError, XoronConnectionError
from xoron_core.contract.api import Problem

_MAX_FRAME = 64 * 2**20


def frames(url: str, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The frames that an `http(s)` address of a stream sends, up to and with `end`.

    Raises: XoronApiError when the server refuses; XoronConnectionError when it cannot be reached or goes away.
    """
    address = "ws" + url.removeprefix("http")
    try:
        proxy: Literal[True] | None = None if is_local(url) else True
        with connect(address, additional_headers=dict(headers), max_size=_MAX_FRAME, proxy=proxy) as socket:
            for message in socket:
                frame: dict[str, Any] = json.loads(message)
                yield frame
                if frame["type"] == "end":
                    return
    except InvalidStatus as error:
        raise _refusal(error) from error
    except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
        raise XoronConnectionError(f"the stream {address} cannot be followed: {error}") from error
    raise XoronConnectionError(f"the stream {address} closed before the run's end")


def _refusal(error: InvalidStatus) -> XoronApiError:
    status, body = error.response.status_code, error.response.body or b""
    try:
        return XoronApiError(Problem.model_validate_json(body))
    except ValueError:
        return XoronApiError(Problem(title="refused", status=status, detail=f"the stream was refused: {status}"))

"""No body larger than anything this API takes."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import problem

MAX_BODY_BYTES = 1_000_000


class BodyLimit:
    """Pure ASGI: reads a request's body up to the limit and answers 413 beyond it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is small enough."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []
        num_bytes = 0
        while True:
            message = await receive()
            messages.append(message)
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                detail = f"the body has more than {MAX_BODY_BYTES} bytes; no request here needs so many"
                await problem(413, detail, headers={"Connection": "close"})(scope, receive, send)
                return
            if message["type"] != "http.request" or not message.get("more_body", False):
                break

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)

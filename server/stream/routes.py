"""The two WebSockets."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, WebSocket, WebSocketDisconnect
from pydantic import Field, ValidationError

from server.errors import NotFoundError, problem
from server.runs.plausible import MAX_INTEGER
from server.services import Services, services
from server.stream.client import StreamClient
from xoron_core.contract.api import ApiModel, RemovedFrame

router = APIRouter(tags=["stream"])
Opened = Annotated[Services, Depends(services)]


class Subscribe(ApiModel):
    """Which run, and from where on."""

    run: str
    after: int = Field(default=0, ge=0, le=MAX_INTEGER)


class ClientMessage(ApiModel):
    """What a page sends."""

    subscribe: Subscribe | None = None
    unsubscribe: str | None = None


@router.websocket("/runs/{run_id}/stream")
async def stream_run(
    websocket: WebSocket, run_id: str, opened: Opened, after: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0
) -> None:
    """One run's events: what is on disk after `after`, then what comes, until it has ended."""
    try:
        run = opened.index.directory(run_id)
    except NotFoundError as error:
        await websocket.send_denial_response(problem(404, str(error)))
        return
    await websocket.accept()
    client = StreamClient(websocket, opened.hub, opened.index, wants_rows=False)
    client.open()
    try:
        client.subscribe(run, after)
        await _until_gone(websocket, client, _ignore(websocket), ends_with_run=True)
    finally:
        client.close()


@router.websocket("/stream")
async def stream_page(websocket: WebSocket, opened: Opened) -> None:
    """Everything that a page shows: changed rows, and the events of the runs that it subscribes to."""
    await websocket.accept()
    client = StreamClient(websocket, opened.hub, opened.index, wants_rows=True)
    client.open()
    try:
        await _until_gone(websocket, client, _listen(websocket, client, opened), ends_with_run=False)
    finally:
        client.close()


async def _until_gone(
    websocket: WebSocket, client: StreamClient, listening: Coroutine[Any, Any, None], *, ends_with_run: bool
) -> None:
    """Send and listen at once until either is through."""
    tasks = [asyncio.ensure_future(listening), asyncio.ensure_future(client.run(ends_with_run=ends_with_run))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BadMessage):
            await websocket.close(1008, str(result)[:100])
            return
        if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
            raise result
    if not any(isinstance(result, WebSocketDisconnect) for result in results):
        await websocket.close()


class BadMessage(Exception):  # noqa: N818 -- what the client did, not what went wrong here
    """The client sent what no page sends."""


async def _receive(websocket: WebSocket) -> str:
    try:
        return await websocket.receive_text()
    except KeyError as error:  # bytes
        raise BadMessage("send text, not bytes") from error


async def _ignore(websocket: WebSocket) -> None:
    while True:
        await _receive(websocket)


async def _listen(websocket: WebSocket, client: StreamClient, opened: Services) -> None:
    while True:
        try:
            message = ClientMessage.model_validate_json(await _receive(websocket))
        except ValidationError as error:
            raise BadMessage('send {"subscribe": {"run": ID, "after": SEQ}} or {"unsubscribe": ID}') from error
        if message.unsubscribe is not None:
            client.unsubscribe(message.unsubscribe)
        if message.subscribe is not None:
            try:
                run = opened.index.directory(message.subscribe.run)
            except NotFoundError:
                await websocket.send_text(RemovedFrame(run=message.subscribe.run).model_dump_json())
                continue
            client.subscribe(run, message.subscribe.after)

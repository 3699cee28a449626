"""One WebSocket: what it watches, and the order in which it is told."""

import asyncio
import time
from dataclasses import dataclass

from starlette.websockets import WebSocket

from server.metrics.follower import encode_events
from server.runs.index import RunIndex
from server.stream.hub import Behind, Channel, Hub, Listener
from server.stream.replay import Replay
from xoron_core.contract import clock
from xoron_core.contract.api import EndFrame, HeartbeatFrame, ResetFrame
from xoron_core.contract.run_directory import RunDirectory

HEARTBEAT_S = 15.0
REPLAY_BYTES = 1 << 18


@dataclass
class Subscription:
    """How far a client is with one run; `replay` is there while it reads from disk."""

    channel: Channel
    seq: int
    replay: Replay | None
    is_end_told: bool = False


class StreamClient:
    """Sends one frame at a time and waits until the socket took it, so that a slow client costs no memory."""

    def __init__(self, websocket: WebSocket, hub: Hub, index: RunIndex, *, wants_rows: bool) -> None:
        self._websocket = websocket
        self._hub = hub
        self._index = index
        self._listener = Listener(wants_rows=wants_rows)
        self._subscriptions: dict[str, Subscription] = {}
        self._heartbeat_due = time.monotonic() + HEARTBEAT_S

    def open(self) -> None:
        """Begin to listen."""
        self._hub.add(self._listener)

    def close(self) -> None:
        """Let go of everything."""
        self._hub.discard(self._listener)
        for run_id in list(self._subscriptions):
            self.unsubscribe(run_id)

    def subscribe(self, run: RunDirectory, after: int) -> None:
        """Send a run's events from `after` + 1 on; an earlier subscription to it is replaced."""
        channel = self._hub.open(run.id)  # before the disk is read: what is written from here on is in the ring
        self.unsubscribe(run.id)
        self._subscriptions[run.id] = Subscription(channel, after, Replay(self._index.database, run, after))
        self._listener.bell.set()

    def unsubscribe(self, run_id: str) -> None:
        """Send no more of a run."""
        old = self._subscriptions.pop(run_id, None)
        if old is not None:
            self._hub.close(old.channel)
            if old.replay is not None:
                self._let_go(old.replay)

    def _let_go(self, replay: Replay) -> None:
        asyncio.get_running_loop().run_in_executor(None, replay.close)  # not here: a read may be under way

    async def run(self, *, ends_with_run: bool) -> None:
        """Send until the client goes, or, with `ends_with_run`, until its run has ended."""
        while True:
            self._listener.bell.clear()
            has_sent = await self._send_rows()
            for run_id, subscription in list(self._subscriptions.items()):
                has_sent |= await self._advance(run_id, subscription)
                if subscription.is_end_told:  # a client that sees it resumed subscribes again
                    self.unsubscribe(run_id)
                    if ends_with_run:
                        return
            if time.monotonic() >= self._heartbeat_due:
                await self._send(HeartbeatFrame(time=clock.now()).model_dump_json())
                self._heartbeat_due = time.monotonic() + HEARTBEAT_S
            elif not has_sent:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(max(0.0, self._heartbeat_due - time.monotonic())):
                await self._listener.bell.wait()
        except TimeoutError:
            return

    async def _send(self, text: str) -> None:
        await self._websocket.send_text(text)

    async def _send_rows(self) -> bool:
        rows, self._listener.rows = self._listener.rows, {}
        for text in rows.values():
            await self._send(text)
        return bool(rows)

    async def _advance(self, run_id: str, subscription: Subscription) -> bool:
        """Send the next frame of a run; whether there was one."""
        if subscription.replay is not None:
            return await self._replay(run_id, subscription, subscription.replay)
        try:
            frame = subscription.channel.after(subscription.seq)
        except Behind:
            subscription.seq = subscription.channel.last
            await self._send(ResetFrame(run=run_id, after=subscription.seq).model_dump_json())
            return True
        if frame is not None:
            subscription.seq = frame.last
            await self._send(frame.text)
            return True
        if self._hub.has_ended(run_id):
            subscription.is_end_told = True
            await self._send(EndFrame(run=run_id).model_dump_json())
            return True
        return False

    async def _replay(self, run_id: str, subscription: Subscription, replay: Replay) -> bool:
        records = await asyncio.to_thread(replay.read, REPLAY_BYTES)
        if self._subscriptions.get(run_id) is not subscription:  # unsubscribed while the disk was read
            return True
        if records:
            subscription.seq = records[-1]["seq"]
            await self._send(encode_events(run_id, records))
        else:
            subscription.replay = None
            self._let_go(replay)
        return True

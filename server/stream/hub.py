"""Rings of encoded frames, one for each run that somebody watches, and the clients to wake."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server.metrics.follower import encode_events
from server.runs.store import RunRow
from server.runs.view import view
from xoron_core.contract.api import RemovedFrame, RunFrame
from xoron_core.contract.states import ENDED

RING_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Frame:
    """Records `first`…`last` of a run, encoded once for all clients."""

    first: int
    last: int
    text: str


class Behind(Exception):  # noqa: N818 -- not an error: a client that read too slowly
    """What the client needs next was dropped from the ring."""


@dataclass
class Channel:
    """The newest frames of one run."""

    run_id: str
    max_bytes: int
    frames: deque[Frame] = field(default_factory=deque)
    num_bytes: int = 0
    dropped: int = 0
    last: int = 0
    num_clients: int = 0

    def push(self, frame: Frame) -> None:
        """Add a frame; old ones are dropped when there are too many bytes."""
        self.frames.append(frame)
        self.num_bytes += len(frame.text)
        self.last = frame.last
        while self.num_bytes > self.max_bytes and len(self.frames) > 1:
            old = self.frames.popleft()
            self.num_bytes -= len(old.text)
            self.dropped = old.last

    def after(self, seq: int) -> Frame | None:
        """The next frame for a client that has everything up to `seq`.

        Raises: Behind when it was dropped already.
        """
        if seq >= self.last:
            return None
        if seq < self.dropped:
            raise Behind
        frame = next(frame for frame in self.frames if frame.last > seq)
        return frame if frame.first > seq else self._without(frame, seq)

    def _without(self, frame: Frame, seq: int) -> Frame:
        events: list[dict[str, Any]] = [event for event in json.loads(frame.text)["events"] if event["seq"] > seq]
        return Frame(events[0]["seq"], frame.last, encode_events(self.run_id, events))


class Listener:
    """A client's bell and, for one that shows all runs, the rows that changed since it looked."""

    def __init__(self, *, wants_rows: bool) -> None:
        self.wants_rows = wants_rows
        self.bell = asyncio.Event()
        self.rows: dict[str, str] = {}


class Hub:
    """Lives on the event loop; the methods that other threads may call say so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring_bytes: int = RING_BYTES) -> None:
        self._loop = loop
        self._ring_bytes = ring_bytes
        self._channels: dict[str, Channel] = {}
        self._listeners: set[Listener] = set()
        self._ended: set[str] = set()

    def add(self, listener: Listener) -> None:
        """Ring this client's bell from now on."""
        self._listeners.add(listener)

    def discard(self, listener: Listener) -> None:
        """Forget a client."""
        self._listeners.discard(listener)

    def open(self, run_id: str) -> Channel:
        """The run's channel, for one more client; events that are not on disk by now will come through it."""
        channel = self._channels.setdefault(run_id, Channel(run_id, self._ring_bytes))
        channel.num_clients += 1
        return channel

    def close(self, channel: Channel) -> None:
        """One client less; the last one takes the ring with it."""
        channel.num_clients -= 1
        if channel.num_clients == 0:
            self._channels.pop(channel.run_id, None)

    def has_ended(self, run_id: str) -> bool:
        """Whether nothing more will come of a run unless somebody resumes it."""
        return run_id in self._ended

    def publish_events(self, run_id: str, records: list[dict[str, Any]]) -> None:
        """Pass committed records on; any thread. Without a channel nobody waits for them."""
        if run_id in self._channels and records:
            frame = Frame(records[0]["seq"], records[-1]["seq"], encode_events(run_id, records))
            self._soon(lambda: self._push(run_id, frame))

    def publish_row(self, row: RunRow) -> None:
        """Pass a changed row on; any thread."""
        text = RunFrame(run=view(row)).model_dump_json() if self._listeners else ""
        self._soon(lambda: self._row(row.id, text, may_have_ended=row.state in ENDED))

    def publish_removal(self, run_id: str) -> None:
        """Tell that a run went; any thread."""
        text = RemovedFrame(run=run_id).model_dump_json()
        self._soon(lambda: self._row(run_id, text, may_have_ended=False))

    def publish_end(self, run_id: str) -> None:
        """Tell that a run is over, its processes are gone and all that it said was passed on; any thread."""
        self._soon(lambda: self._end(run_id))

    def _soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _push(self, run_id: str, frame: Frame) -> None:
        channel = self._channels.get(run_id)
        if channel is not None:
            channel.push(frame)
            self._ring()

    def _row(self, run_id: str, text: str, *, may_have_ended: bool) -> None:
        if not may_have_ended:
            self._ended.discard(run_id)
        for listener in self._listeners:
            if listener.wants_rows and text:
                listener.rows[run_id] = text
        self._ring()

    def _end(self, run_id: str) -> None:
        self._ended.add(run_id)
        self._ring()

    def _ring(self) -> None:
        for listener in self._listeners:
            listener.bell.set()

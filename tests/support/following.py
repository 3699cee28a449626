"""A browser's end of a run's stream: it comes back after every loss of the connection and goes on where it was."""

import json
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.serving import RunningServer


class Follower:
    """Collects a run's events over any number of connections.

    Raises: AssertionError at an event that is missing, comes twice or out of order.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.records: list[dict[str, Any]] = []

    def follow(self, server: RunningServer, until: Callable[[dict[str, Any]], bool], timeout_s: float) -> bool:
        """Listen until an event comes that `until` likes; False when none did in time."""
        deadline = time.monotonic() + timeout_s
        address = f"{server.ws}/runs/{self.run_id}/stream?after={len(self.records)}"
        with connect(address, max_size=None, proxy=None) as socket:
            while (left_s := deadline - time.monotonic()) > 0:
                try:
                    frame = json.loads(socket.recv(timeout=left_s))
                except (TimeoutError, ConnectionClosed):
                    return False
                for record in frame.get("events", ()):
                    assert record["seq"] == len(self.records) + 1, f"after event {len(self.records)} came {record}"
                    self.records.append(record)
                    if until(record):
                        return True
        return False


def is_step(record: dict[str, Any]) -> bool:
    """Whether an event tells of a training step."""
    return bool(record["kind"] == "metrics")

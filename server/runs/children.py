"""The keepers that this server started; those of an earlier server are known by their `keeper.json` alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Process(Protocol):
    """Of a started process, what is needed here; `subprocess.Popen` is one."""

    returncode: Any

    def poll(self) -> int | None:
        """Its status once it has ended."""


class Children:
    """Started processes, so that a keeper counts as alive before it wrote its file, and is reaped after its end."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, int], Process] = {}
        self._expected: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def expected(self, run_id: str, attempt: int) -> Iterator[None]:
        """Count an attempt's keeper as alive while it is being started."""
        with self._lock:
            self._expected.add((run_id, attempt))
        try:
            yield
        finally:
            with self._lock:
                self._expected.discard((run_id, attempt))

    def add(self, run_id: str, attempt: int, process: Process) -> None:
        """Remember the keeper of an attempt."""
        with self._lock:
            self._processes[run_id, attempt] = process

    def is_alive(self, run_id: str, attempt: int) -> bool:
        """Whether the keeper that was started for that attempt still runs, or is on its way."""
        with self._lock:
            if (run_id, attempt) in self._expected:
                return True
            process = self._processes.get((run_id, attempt))
            return process is not None and process.poll() is None

    def reap(self) -> dict[str, int]:
        """Take the status of those that ended; their runs, and the status."""
        with self._lock:
            ended = {key: code for key, process in self._processes.items() if (code := process.poll()) is not None}
            for key in ended:
                del self._processes[key]
        return {run_id: code for (run_id, _), code in ended.items()}

    def release(self) -> None:
        """Let the keepers live on without this server."""
        with self._lock:
            for process in self._processes.values():
                if process.poll() is None:
                    process.returncode = 0  # it is nobody's to wait for: without this, Popen complains when it goes
            self._processes.clear()

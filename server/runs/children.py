"""The keepers that this server started; those of an earlier server are known by their `keeper.json` alone."""

import subprocess
import threading


class Children:
    """Started processes, so that a keeper counts as alive before it wrote its file, and is reaped after its end."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def add(self, run_id: str, attempt: int, process: subprocess.Popen[bytes]) -> None:
        """Remember the keeper of an attempt."""
        with self._lock:
            self._processes[run_id, attempt] = process

    def is_alive(self, run_id: str, attempt: int) -> bool:
        """Whether the keeper that was started for that attempt still runs."""
        with self._lock:
            process = self._processes.get((run_id, attempt))
            return process is not None and process.poll() is None

    def reap(self) -> set[str]:
        """Take the status of those that ended; their runs."""
        with self._lock:
            ended = [key for key, process in self._processes.items() if process.poll() is not None]
            for key in ended:
                del self._processes[key]
        return {run_id for run_id, _ in ended}

    def release(self) -> None:
        """Let the keepers live on without this server."""
        with self._lock:
            for process in self._processes.values():
                if process.poll() is None:
                    process.returncode = 0  # it is nobody's to wait for: without this, Popen complains when it goes
            self._processes.clear()

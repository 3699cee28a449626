"""The keepers that this server started; those of an earlier server are known by their `keeper.json` alone."""

import subprocess
import threading


class Children:
    """Started processes by run, so that a keeper counts as alive before it wrote its file, and is reaped after."""

    def __init__(self) -> None:
        self._processes: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
        self._lock = threading.Lock()

    def add(self, run_id: str, attempt: int, process: subprocess.Popen[bytes]) -> None:
        """Remember the keeper of an attempt."""
        with self._lock:
            self._processes[run_id] = (attempt, process)

    def is_alive(self, run_id: str, attempt: int) -> bool:
        """Whether the keeper that was started for that attempt still runs."""
        with self._lock:
            known = self._processes.get(run_id)
            return known is not None and known[0] == attempt and known[1].poll() is None

    def reap(self) -> list[str]:
        """Take the status of those that ended; their runs."""
        with self._lock:
            ended = [run_id for run_id, (_, process) in self._processes.items() if process.poll() is not None]
            for run_id in ended:
                del self._processes[run_id]
        return ended

    def release(self) -> None:
        """Let the keepers live on without this server."""
        with self._lock:
            for _, process in self._processes.values():
                process.returncode = process.returncode if process.returncode is not None else 0
            self._processes.clear()

"""How busy the machine's processors are."""

import threading
import time

import psutil

MIN_WINDOW_S = 0.5


class CpuMeter:
    """Share of busy processor time since the last reading, whoever asked for it.

    psutil's own `cpu_percent` remembers the last reading of each thread, and routes run in many.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at, (self._busy_s, self._total_s) = time.monotonic(), _times()
        self._percent = 0.0

    def percent(self) -> float:
        """Of all processors together, 0 to 100."""
        with self._lock:
            if time.monotonic() - self._read_at >= MIN_WINDOW_S:
                busy_s, total_s = _times()
                if total_s > self._total_s:
                    self._percent = 100 * max(0.0, busy_s - self._busy_s) / (total_s - self._total_s)
                self._read_at, self._busy_s, self._total_s = time.monotonic(), busy_s, total_s
            return self._percent


def _times() -> tuple[float, float]:
    """Busy and total processor seconds since boot."""
    times = psutil.cpu_times()
    total = sum(times) - times.guest - times.guest_nice  # both are counted in user and nice already
    return total - times.idle - times.iowait, total

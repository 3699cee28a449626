"""Who a process is: a pid alone is reused, a clock moves; boot id and start ticks are neither."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ProcessIdentity(BaseModel):
    """A process of this host, told apart from a later one with the same pid and from one before a reboot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    boot_id: str
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The identity of the live process `pid`; None when there is none (a zombie counts as none)."""
        ticks = _start_ticks(pid)
        return None if ticks is None else cls(pid=pid, boot_id=boot_id(), start_ticks=ticks)

    @classmethod
    def of_self(cls) -> "ProcessIdentity":
        """The identity of the calling process."""
        identity = cls.of(os.getpid())
        assert identity is not None, "a running process has an entry in /proc"
        return identity

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return self.boot_id == boot_id() and _start_ticks(self.pid) == self.start_ticks


def boot_id() -> str:
    """The kernel's identifier of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); the command name before it may hold blanks and parentheses."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone, or another user's, of whom /proc may tell nothing (proc(5), hidepid)
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])

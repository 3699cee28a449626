"""Who has which GPU: an flock on a file for each UUID, in a folder that every program of this machine shares.

A lease belongs to the open file: whoever inherits it (the keeper, the trainer or the launcher of several) holds it, and
it ends with the last of them, however they end.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/tmp/xoron-gpus")  # noqa: S108 -- where TMPDIR points differs from program to program
GLANCE_S = 0.1
"""Whoever asks who has a GPU holds its file, too, but for much less than this."""
_AGAIN_S = 0.005
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Lease:
    """One GPU, held as long as `fd` or a copy of it is open."""

    uuid: str
    fd: int

    def release(self) -> None:
        """Close this copy."""
        os.close(self.fd)


class Leases:
    """The leases of this machine's GPUs."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def take(self, uuids: Sequence[str], count: int, holder: str) -> list[Lease] | None:
        """`count` of these GPUs that nobody has, or None when there are not so many; `holder` is who takes them.

        Raises: OSError when the folder cannot be written.
        """
        taken: list[Lease] = []
        with ExitStack() as given_back:
            for uuid in uuids:
                if len(taken) == count:
                    break
                lease = self._take_one(uuid, holder)
                if lease is not None:
                    given_back.callback(lease.release)
                    taken.append(lease)
            if len(taken) < count:
                return None
            given_back.pop_all()
        return taken

    def _take_one(self, uuid: str, holder: str) -> Lease | None:
        fd = self._open(uuid)
        with ExitStack() as given_back:
            given_back.callback(os.close, fd)
            if not _lease(fd):
                return None
            os.ftruncate(fd, 0)
            os.pwrite(fd, holder.encode(), 0)
            given_back.pop_all()
        return Lease(uuid, fd)

    def holders(self, uuids: Iterable[str]) -> dict[str, str]:
        """The GPUs among these that somebody has, and who."""
        found = {}
        for uuid in uuids:
            fd = self._open(uuid)
            try:
                if not _lock(fd, fcntl.LOCK_SH):
                    found[uuid] = os.pread(fd, 4096, 0).decode(errors="replace")
            finally:
                os.close(fd)
        return found

    def _open(self, uuid: str) -> int:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o1777)  # other users of this machine lease from the same GPUs
        path = self.folder / f"{_UNSAFE.sub('_', uuid)}.lock"
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return _make(path)


def _make(path: Path) -> int:
    """A new file that everybody may lock, whatever the umask."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:  # somebody else was quicker
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    os.fchmod(fd, 0o666)
    return fd


def _lease(fd: int) -> bool:
    """Lock a file for good; somebody who only glances at it is waited for."""
    deadline = time.monotonic() + GLANCE_S
    while not _lock(fd, fcntl.LOCK_EX):
        if not _lock(fd, fcntl.LOCK_SH) or time.monotonic() > deadline:
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_AGAIN_S)
    return True


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fds(leases: Iterable[Lease]) -> tuple[int, ...]:
    """What a child must inherit to hold the leases, too."""
    return tuple(lease.fd for lease in leases)

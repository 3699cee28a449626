"""Disks without room."""

import errno
import os
from pathlib import Path

_BLOCK = bytes(1 << 16)


class Ballast:
    """A file that takes the room on a disk."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "ballast"

    def leave(self, free_bytes: int) -> None:
        """Grow until that much is left."""
        with self._path.open("ab") as file:
            while self._free() > free_bytes:
                try:
                    file.write(_BLOCK[: max(1, min(len(_BLOCK), self._free() - free_bytes))])
                    file.flush()
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def drop(self) -> None:
        """Give the room back."""
        self._path.unlink()

    def _free(self) -> int:
        status = os.statvfs(self._path)
        return status.f_bavail * status.f_frsize

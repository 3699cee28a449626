"""Files that a row names."""

import errno
import os
import stat
from pathlib import Path

from xoron_core.data.sources.rows import MAX_ROW_BYTES, BadRowError

AWAY = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.ETIMEDOUT})
"""What the system says when it is the disk or the server that is gone, not the file."""


def read_within(folder: Path, name: str) -> bytes:
    """The bytes of a file in a folder or below it.

    Raises: BadRowError when there is no such file, or it is too large; OSError when the folder itself cannot be
    reached.
    """
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (ValueError, RuntimeError) as error:  # a NUL byte, a loop of links
        raise BadRowError(f"{name!r} is no path: {error}", "missing_file") from error
    if not path.is_relative_to(root):
        cure = "put the file itself below that folder, or what names it into a folder above both"
        raise BadRowError(f"{name!r} leads out of {root}; {cure}", "missing_file")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadRowError(f"{name!r} is no file", "missing_file")
        if found.st_size > MAX_ROW_BYTES:
            raise BadRowError(f"{name!r} has {found.st_size} bytes, {MAX_ROW_BYTES} are the most", "too_large")
        return path.read_bytes()
    except OSError as error:
        if error.errno in AWAY or _is_empty(root):  # where a disk was mounted, an empty folder stays
            raise
        raise BadRowError(f"cannot read {name!r}: {error.strerror}", "missing_file") from error


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as listed:
        return next(listed, None) is None

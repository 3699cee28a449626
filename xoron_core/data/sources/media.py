"""Files that a row names."""

import errno
from pathlib import Path

from xoron_core.data.sources.rows import BadRowError

AWAY = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.ETIMEDOUT})
"""What the system says when it is the disk or the server that is gone, not the file."""


def read_within(folder: Path, name: str) -> bytes:
    """The bytes of a file in a folder or below it.

    Raises: BadRowError when there is no such file; OSError when the folder itself cannot be reached.
    """
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (ValueError, RuntimeError) as error:  # a NUL byte, a loop of links
        raise BadRowError(f"{name!r} is no path: {error}", "missing_file") from error
    if not path.is_relative_to(root):
        raise BadRowError(f"{name!r} leads out of {root}", "missing_file")
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in AWAY or not any(root.iterdir()):  # where a disk was mounted, an empty folder stays
            raise
        raise BadRowError(f"cannot read {name!r}: {error.strerror}", "missing_file") from error

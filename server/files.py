"""Questions about files whose names come from outside."""

import os
from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is such a file; `Path.is_file` raises OSError for a name that is longer than any file's."""
    return os.path.isfile(path)  # noqa: PTH113

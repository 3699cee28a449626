"""JSON Lines: an object a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xoron_core.data.sources.index import Index
from xoron_core.data.sources.offsets import OffsetRows, index_of
from xoron_core.data.sources.rows import BadRowError, Tell, chunks


def open_jsonl(path: Path, index: Index) -> OffsetRows:
    """The rows of a file. Raises: OSError."""
    return OffsetRows(path, index, parse_object)


def scan_jsonl(path: Path, tell: Tell) -> Index:
    """Where each line begins; blank lines at the end do not count. Raises: OSError."""
    begins = [np.zeros(1, dtype=np.int64)]
    end = 0
    for at, chunk in chunks(path, tell):
        begins.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + (at + 1))
        if content := chunk.rstrip():
            end = at + len(content)
    offsets = np.concatenate(begins)
    return index_of(np.append(offsets[offsets < end], end))


def parse_object(content: bytes) -> Mapping[str, Any]:
    """A JSON object. Raises: BadRowError."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadRowError(f"not a JSON object but a {type(fields).__name__}", "wrong_type")
    return fields

"""Trying again what may be there again soon."""

import time
from collections.abc import Callable
from typing import TypeVar

from xoron_core.contract.errors import SourceLostError

T = TypeVar("T")


def retried(read: Callable[[], T], num_retries: int, pause: Callable[[float], None] = time.sleep) -> T:
    """What `read` gives, tried again after 1, 2, 4 … seconds while its source cannot be reached.

    Raises: SourceLostError when it still cannot.
    """
    for attempt in range(num_retries):
        try:
            return read()
        except SourceLostError:
            pause(2.0**attempt)
    return read()

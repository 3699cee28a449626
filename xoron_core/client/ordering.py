"""Which runs exchange their places when one is moved within the queue."""

from collections.abc import Sequence

from xoron_core.client.errors import XoronClientError


def moved(waiting: Sequence[str], run_id: str, before: str | None) -> list[str]:
    """The stretch of the queue that changes when `run_id` goes in front of `before` (None: to the end), in its new
    order; runs outside it keep their places.

    Raises: XoronClientError when one of the two does not wait.
    """
    for one in (run_id, before):
        if one is not None and one not in waiting:
            raise XoronClientError(f"run {one} does not wait; `xoron runs queue` lists those that do")
    rest = [one for one in waiting if one != run_id]
    if before == run_id:
        return [run_id]
    at = len(rest) if before is None else rest.index(before)
    after = [*rest[:at], run_id, *rest[at:]]
    old, new = waiting.index(run_id), after.index(run_id)
    return after[min(old, new) : max(old, new) + 1]

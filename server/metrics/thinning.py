"""Fewer points that look like all of them."""

import math
from collections.abc import Sequence


def kept(values: Sequence[float], max_points: int) -> list[int]:
    """Positions to keep, in order, at most about `max_points`: the first, the last, and of each bucket between them
    the smallest, the largest and one NaN (a mark that must not be lost)."""
    count = len(values)
    if count <= max_points:
        return list(range(count))
    has_null = any(math.isnan(value) for value in values)
    num_buckets = max(1, (max_points - 2) // (3 if has_null else 2))
    chosen = {0, count - 1}
    inner = count - 2
    for bucket in range(num_buckets):
        start, end = 1 + bucket * inner // num_buckets, 1 + (bucket + 1) * inner // num_buckets
        chosen.update(_marks(values, start, end))
    return sorted(chosen)


def _marks(values: Sequence[float], start: int, end: int) -> set[int]:
    smallest = largest = null = None
    for at in range(start, end):
        value = values[at]
        if math.isnan(value):
            null = at if null is None else null
        elif smallest is None or largest is None:
            smallest = largest = at
        else:
            smallest = at if value < values[smallest] else smallest
            largest = at if value > values[largest] else largest
    return {at for at in (smallest, largest, null) if at is not None}

"""What was used last, kept open or in memory."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps the `capacity` values used last; `drop` is called with each that has to make room."""

    def __init__(self, capacity: int, drop: Callable[[V], None]) -> None:
        self._capacity = capacity
        self._drop = drop
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        while len(self._values) >= self._capacity:  # before, so that there are never more
            self._drop(self._values.popitem(last=False)[1])
        self._values[key] = made = make()
        return made

    def clear(self) -> None:
        """Drop all."""
        while self._values:
            self._drop(self._values.popitem()[1])

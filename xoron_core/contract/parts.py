"""Splits and parts of splits, as a configuration writes them: `train`, `train[100:]`, `train[:95%]`."""

import re
from dataclasses import dataclass

_SPLIT = re.compile(r"(\w[\w.+-]*)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


@dataclass(frozen=True)
class Part:
    """Rows from `start` up to `stop`: numbers, from the end when negative, or per cent (`95%`); None: either end."""

    start: str | None = None
    stop: str | None = None

    def of(self, num_rows: int) -> range:
        """The numbers of these rows where there are so many. `[:95%]` and `[95%:]` have none in common and leave none
        out."""
        return range(num_rows)[_place(self.start, num_rows) : _place(self.stop, num_rows)]

    @property
    def from_the_start(self) -> tuple[int, int | None] | None:
        """First row and the one after the last (None: all); None where only the number of all rows tells."""
        start, stop = self.start or "0", self.stop
        if any(bound.startswith("-") or bound.endswith("%") for bound in (start, stop or "0")):
            return None
        return int(start), None if stop is None else int(stop)

    def __str__(self) -> str:
        return "" if self == Part() else f"[{self.start or ''}:{self.stop or ''}]"


def parse_split(text: str) -> tuple[str, Part]:
    """The name of a split and the part of it.

    Raises: ValueError when it is not written like one.
    """
    matched = _SPLIT.fullmatch(text)
    if matched is None:
        raise ValueError("is a name such as train, or a part of it: train[100:], train[:95%]")
    return matched[1], Part(matched[2], matched[3])


def _place(bound: str | None, num_rows: int) -> int | None:
    if bound is None or not bound.endswith("%"):
        return None if bound is None else int(bound)
    share = int(bound.removesuffix("%"))
    share = min(max(share if not bound.startswith("-") else 100 + share, 0), 100)
    return (num_rows * share + 50) // 100

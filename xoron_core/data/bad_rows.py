"""Rows that cannot be read: how many of each source, and when they are too many."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import sqrt
from typing import Any

from xoron_core.contract.errors import DataError
from xoron_core.data.records import BadSample

MIN_DRAWS_TO_JUDGE = 20
CHANCE_SIGMAS = 4.0


class BadRows:
    """Counts since the run began. `num_rows` of each source, None where nobody knows."""

    def __init__(self, num_rows: Mapping[str, int | None], max_fraction: float) -> None:
        self.num_rows = num_rows
        self.max_fraction = max_fraction
        self.tried: Counter[str] = Counter(dict.fromkeys(num_rows, 0))
        self.bad: Counter[str] = Counter(dict.fromkeys(num_rows, 0))

    def count(self, bad: Iterable[BadSample], tried: Iterable[Mapping[str, int]]) -> tuple[BadSample, ...]:
        """Add what became of some windows; the bad rows with their counts.

        Raises: DataError naming the source of which more is unreadable than may be.
        """
        for counts in tried:
            self.tried.update(counts)
        counted = []
        for row in bad:
            self.bad[row.source] += 1
            counted.append(replace(row, count=self.bad[row.source]))
            if self._are_too_many(row.source):
                raise DataError(
                    row.source,
                    row.index,
                    f"{row.reason}; that makes {self.bad[row.source]} unreadable rows of {self.tried[row.source]}, "
                    f"more than data.max_bad_fraction {self.max_fraction} allows; mend the source or raise the limit",
                    row.kind,
                )
        return tuple(counted)

    def _are_too_many(self, source: str) -> bool:
        """Certain as soon as they are too many for all the rows of the rounds begun; believed before that when they are
        so many of the rows tried that chance does not explain it."""
        bad, tried, limit = self.bad[source], self.tried[source], self.max_fraction
        num_rows = self.num_rows[source]
        if num_rows is not None and bad / (-(-tried // num_rows) * num_rows) > limit:
            return True
        chance = CHANCE_SIGMAS * sqrt(limit * (1 - limit) * tried)
        return tried >= MIN_DRAWS_TO_JUDGE and bad > limit * tried + chance

    def state_dict(self) -> dict[str, Any]:
        """The counts, as plain data."""
        return {"tried": dict(self.tried), "bad": dict(self.bad)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved counts of the sources that are still there."""
        for counts, saved in ((self.tried, state["tried"]), (self.bad, state["bad"])):
            counts.update({name: saved.get(name, 0) - counts[name] for name in counts})

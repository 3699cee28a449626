"""Several ranks: one that failed leaves the others waiting for it, and its launcher patient with them."""

from server.runs.keeping.ending import ORDERLY
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.run_directory import RankEnd, RunDirectory

PEER_GRACE_S = 3.0
"""For its last words, and for what it is writing."""
_LOOK_EVERY_S = 0.5


class PeerWatch:
    """Notices a rank that failed while others are still there."""

    def __init__(self, run: RunDirectory, attempt: int, num_processes: int, grace_s: float = PEER_GRACE_S) -> None:
        self._run = run
        self._attempt = attempt
        self._num_processes = num_processes
        self._grace_s = grace_s
        self._were_all_there = False
        self._due_s = 0.0
        self._failed_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether it is time to count the ranks again."""
        return self._num_processes > 1 and now_s >= self._due_s

    def must_end(self, now_s: float, num_ranks: int) -> bool:
        """Whether the ranks that are left had their time since another failed."""
        self._due_s = now_s + _LOOK_EVERY_S
        self._were_all_there = self._were_all_there or num_ranks == self._num_processes
        num_gone = self._num_processes - num_ranks
        if not self._were_all_there or not 0 < num_gone < self._num_processes or not self._has_failed(num_gone):
            self._failed_s = None
            return False
        if self._failed_s is None:
            self._failed_s = now_s
        return now_s - self._failed_s >= self._grace_s

    def _has_failed(self, num_gone: int) -> bool:
        ends = self._ends()
        return len(ends) < num_gone or any(end.code not in ORDERLY for end in ends)

    def _ends(self) -> list[RankEnd]:
        try:
            return self._run.rank_ends(self._attempt)
        except RunDirectoryError:
            return []

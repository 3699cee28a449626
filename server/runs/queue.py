"""The order in which runs wait, and the words for why. No files, no clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.runs.store import RunRow

_MAX_NAMED = 3

Place = tuple[int, float]
"""Priority and place: what decides who is next."""


@dataclass(frozen=True)
class Hold:
    """Why a waiting run cannot start, whatever the others do; `takes_slot`: as if it had started already."""

    reason: str
    takes_slot: bool = False


def exchanged(waiting: Sequence[RunRow], order: Sequence[str]) -> dict[str, Place]:
    """The priorities and places with which the runs of `order` stand in that order, in the places that they have
    together among those `waiting` (the next one first); only what changes is in it."""
    before = {row.id: (row.record.priority, row.record.place) for row in waiting}
    apart = _apart(waiting)
    free = [apart[row.id] for row in waiting if row.id in set(order)]
    after = apart | dict(zip(order, free, strict=True))
    return {run_id: place for run_id, place in after.items() if place != before[run_id]}


def _apart(waiting: Sequence[RunRow]) -> dict[str, Place]:
    """Places of which no two are the same: those that are, are spread up to the next one."""
    groups: dict[Place, list[str]] = {}
    for row in waiting:
        groups.setdefault((row.record.priority, row.record.place), []).append(row.id)
    found: dict[str, Place] = {}
    for (priority, place), members in groups.items():
        later = [other for level, other in groups if level == priority and other > place]
        width = min(later, default=place + 1.0) - place
        found |= {run_id: (priority, place + number * width / len(members)) for number, run_id in enumerate(members)}
    return found


def slots_reason(taken_by: Mapping[str, str], max_runs: int) -> str:
    """Why the next run waits where every slot is taken by the runs of these ids and names."""
    named = [f"{run_id} ({name})" for run_id, name in taken_by.items()]
    if len(named) > _MAX_NAMED:
        named = [*named[: _MAX_NAMED - 1], f"{len(named) - _MAX_NAMED + 1} others"]
    verb = "is" if len(taken_by) == 1 else "are"
    return f"{len(taken_by)} of {max_runs} slot{'' if max_runs == 1 else 's'} {verb} taken by {', '.join(named)}"


def leaving_reason(wanted: str) -> str:
    """Why a run waits whose earlier attempt has processes that are still there, `wanted` being what it is to become."""
    if wanted == "running":
        return "waits for the processes of its earlier attempt to save and exit"
    return f"is {wanted} as soon as the processes of its earlier attempt have saved and exited"


def after_reason(run_id: str, name: str) -> str:
    """Why a run waits behind another."""
    return f"next after {run_id} ({name})"

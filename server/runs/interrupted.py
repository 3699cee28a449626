"""Whether a run whose keeper went away is resumed by the server, and how."""

from dataclasses import dataclass

from server.runs.attempts import INTERRUPTED, newest_attempt
from server.runs.keeping.line import interrupted_line
from server.runs.keeping.recovery import FailedAttempt, GiveUp, recover
from server.runs.standing import ending_commands
from server.runs.store import RunRow
from xoron_core.contract.errors import XoronError
from xoron_core.contract.run_directory import RunDirectory, attempt_config

_BY_HAND = "it waits for a person, and resume goes on from the newest checkpoint"


@dataclass(frozen=True)
class Resume:
    """Go on after `delay_s` from `checkpoint` (None: the newest)."""

    delay_s: float
    checkpoint: str | None
    reason: str


@dataclass(frozen=True)
class Stay:
    """Wait for a person; `reason` is for that person to read."""

    reason: str


def after_interruption(run: RunDirectory, row: RunRow, launch_error: str | None) -> Resume | Stay:
    """What follows for an interrupted run; `launch_error` is why this server could not start its newest attempt."""
    if row.record.wanted != "running":
        return Stay(f"its processes are gone before it was {row.record.wanted}, as was asked; {_BY_HAND}")
    if launch_error is None and (stranger := _is_strange(run, row)):
        return Stay(stranger)
    try:
        attempt = newest_attempt(run)
        if ending_commands(run, row.standing.line, attempt):
            return Stay(f"its processes are gone, and it had been asked to end; {_BY_HAND}")
        record = run.attempt(attempt)
        line = interrupted_line(run, attempt)
        decision = recover(attempt_config(record), line)
    except XoronError as error:
        return Stay(f"its processes are gone, and it cannot be resumed by itself: {error}")
    cause = INTERRUPTED if launch_error is None else f"attempt {attempt} could not be started ({launch_error})"
    if isinstance(decision, GiveUp):
        return Stay(f"its processes are gone: {cause}; {decision.reason}; {_BY_HAND}")
    checkpoint = record.checkpoint if _did_nothing(row, line[-1]) else None
    return Resume(decision.delay_s, checkpoint, f"{cause}; {decision.reason}")


def _is_strange(run: RunDirectory, row: RunRow) -> str | None:
    """Why nobody can know that the run was at work here, in this very directory."""
    keeper = run.keeper()
    if keeper is None and row.facts.state is None:  # begun by a server that was killed before it started the keeper
        return None
    if keeper is None:
        return f"it was begun, but no keeper of it is known; {_BY_HAND}"
    if run.own_keeper() is None:
        return f"its processes are not in this directory: it is a copy, restored from a backup perhaps; {_BY_HAND}"
    return None


def _did_nothing(row: RunRow, last: FailedAttempt) -> bool:
    """Whether the newest attempt did no step: what lies beyond its checkpoint is of a course that was left."""
    said = row.facts.state
    return said is None or said.attempt < last.attempt or last.step <= last.start_step

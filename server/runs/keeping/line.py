"""A line of attempts that followed from one another: how they failed, and how the next one begins. No processes."""

import re
from collections.abc import Sequence
from typing import Any

from server.checkpoints.scan import complete
from server.runs.attempts import INTERRUPTED
from server.runs.keeping.recovery import FailedAttempt, Recovery
from xoron_core.contract import clock
from xoron_core.contract.beat import read_beat
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.run_directory import AttemptRecord, RankEnd, RunDirectory, attempt_config

_STEP = re.compile(r"step-(\d{8})$")


def start_step(record: AttemptRecord) -> int:
    """The step that an attempt goes on from."""
    match = None if record.checkpoint is None else _STEP.search(record.checkpoint)
    return 0 if match is None else int(match[1])


def failed(
    record: AttemptRecord, failure: Failure, step: int, reason: str, ends: Sequence[RankEnd] = ()
) -> FailedAttempt:
    """How one attempt failed; the samples at fault are in its ranks' last words."""
    bad = next((end for end in ends if end.bad_since_step is not None), None)
    return FailedAttempt(
        attempt=record.attempt,
        cause=record.cause if isinstance(record.cause, Failure) else None,
        failure=failure,
        step=step,
        start_step=start_step(record),
        reason=reason,
        bad_since_step=None if bad is None else bad.bad_since_step,
        bad_samples=() if bad is None else bad.bad_samples,
    )


def earlier_failures(run: RunDirectory, attempt: int) -> list[FailedAttempt]:
    """How the attempts of the line that led to `attempt` failed, oldest first.

    Raises: RunDirectoryError when a file is missing or malformed.
    """
    exits = {end.attempt: end for end in run.exits().attempts}
    found = []
    for record in run.line(attempt)[:-1]:
        end = exits.get(record.attempt)
        if end is None or end.failure is None:
            found.append(failed(record, Failure.INTERRUPTED, -1, INTERRUPTED))
        else:
            found.append(failed(record, end.failure, end.step, end.reason))
    return found


def interrupted_line(run: RunDirectory, attempt: int) -> list[FailedAttempt]:
    """The line up to `attempt`, whose keeper went away without a word.

    Raises: RunDirectoryError when a file is missing or malformed.
    """
    record = run.attempt(attempt)
    now = failed(record, Failure.INTERRUPTED, last_step(run, record), INTERRUPTED)
    return [*earlier_failures(run, attempt), now]


def last_step(run: RunDirectory, record: AttemptRecord, ends: Sequence[RankEnd] = ()) -> int:
    """The last step that was done in the newest attempt."""
    return max(start_step(record), read_beat(run.beat_file).step, *(end.step for end in ends))


def next_attempt(run: RunDirectory, record: AttemptRecord, last: FailedAttempt, recovery: Recovery) -> AttemptRecord:
    """The attempt that follows `record`, which failed as `last` says.

    Raises: ConfigError when the changed configuration is none.
    """
    config: dict[str, Any] = attempt_config(record).to_dict()
    known = record.skip
    return AttemptRecord(
        attempt=record.attempt + 1,
        cause=recovery.failure,
        reason=f"{last.reason}; {recovery.reason}",
        created_at=clock.now(),
        checkpoint=_checkpoint(run, record, last, recovery.before_step),
        skip=[*known, *(sample for sample in recovery.skip if sample not in known)],
        config=RunConfig.parse(merge(config, dict(recovery.config))).to_dict(),
    )


def _checkpoint(run: RunDirectory, record: AttemptRecord, last: FailedAttempt, before_step: int | None) -> str | None:
    """The newest complete checkpoint, or the newest before a step. An attempt that did no step left nothing newer than
    what it began with: the checkpoints of later steps are of a course that was left."""
    known = complete(run)
    if before_step is not None:
        known = {step: path for step, path in known.items() if step < before_step}
    elif last.step <= last.start_step:
        known = {step: path for step, path in known.items() if step <= last.start_step}
    return str(known[max(known)].relative_to(run.path)) if known else None


def is_of_a_persons_choice(run: RunDirectory, record: AttemptRecord) -> bool:
    """Whether a person named the very checkpoint that an attempt began with."""
    if isinstance(record.cause, Failure):
        return False
    try:
        asked = run.record()
    except RunDirectoryError:
        return False
    return asked.attempt == record.attempt and asked.resume_from is not None


def record_before(run: RunDirectory, attempt: int) -> AttemptRecord | None:
    """The record of the newest attempt before this one; None where there is none.

    Raises: RunDirectoryError when it is malformed.
    """
    for number in range(attempt - 1, 0, -1):
        if run.attempt_file(number).exists():
            return run.attempt(number)
    return None


def interruption(run: RunDirectory, attempt: int) -> str | None:
    """Why an attempt began that follows an interruption; None where another cause, or no file, is at hand."""
    try:
        record = run.attempt(attempt)
    except RunDirectoryError:
        return None
    return record.reason if record.cause is Failure.INTERRUPTED else None

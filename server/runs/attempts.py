"""Beginning an attempt: the configuration, the checkpoint and the samples to leave out that it is given."""

from typing import Any

from server.checkpoints.scan import newest
from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, RunRecord, attempt_config

INTERRUPTED = "its keeper was killed, or the machine went down"
"""What is known of an attempt that ended without a word from its keeper."""


def newest_attempt(run: RunDirectory) -> int:
    """The number of the newest attempt that began, by a person, the server or the keeper; 0 before the first."""
    return max((int(path.stem) for path in run.attempts.glob("[0-9]*.yaml")), default=0)


def newest_config(run: RunDirectory, attempt: int) -> RunConfig:
    """The configuration of an attempt; of one that has not begun, that of the newest before it.

    Raises: RunDirectoryError, ConfigError when the file is malformed.
    """
    record = _newest_record(run, attempt)
    return run.config() if record is None else attempt_config(record)


def resumed_config(run: RunDirectory, attempt: int, overrides: dict[str, Any]) -> RunConfig:
    """The configuration of an attempt that follows `attempt`.

    Raises: RunDirectoryError, ConfigError when there is none, or the overrides do not fit it.
    """
    return RunConfig.parse(merge(newest_config(run, attempt).to_dict(), overrides))


def begin_attempt(run: RunDirectory, record: RunRecord) -> None:
    """Write the file with which the attempt that `record` asks for begins. Samples that the attempts before it left
    out stay out.

    Raises: FileExistsError when it began already.
    """
    checkpoint = record.resume_from
    if checkpoint is None:
        found = newest(run)
        checkpoint = None if found is None else str(found.relative_to(run.path))
    before = _newest_record(run, record.attempt)
    cause, reason = _cause(record)
    run.write_attempt(
        AttemptRecord(
            attempt=record.attempt,
            cause=cause,
            reason=reason,
            created_at=clock.now(),
            checkpoint=checkpoint,
            skip=[] if before is None else before.skip,
            config=resumed_config(run, record.attempt, record.resume_config).to_dict(),
        )
    )


def _cause(record: RunRecord) -> tuple[Any, str]:
    if record.attempt == 1:
        return "started", "started"
    if record.resumed_by == "server":
        return Failure.INTERRUPTED, f"{INTERRUPTED}; going on from the last checkpoint"
    return "resumed", "resumed"


def _newest_record(run: RunDirectory, attempt: int) -> AttemptRecord | None:
    """That of `attempt`, or of the newest one before it that began."""
    for number in range(attempt, 0, -1):
        if run.attempt_file(number).exists():
            return run.attempt(number)
    return None

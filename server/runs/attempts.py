"""Beginning an attempt: the configuration and the checkpoint that it is given."""

from typing import Any

from server.checkpoints.scan import newest
from xoron_core.contract import clock
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, RunRecord, attempt_config


def newest_config(run: RunDirectory, attempt: int) -> RunConfig:
    """The configuration of an attempt; of one that has not begun, that of the newest before it.

    Raises: RunDirectoryError, ConfigError when the file is malformed.
    """
    for number in range(attempt, 0, -1):
        if run.attempt_file(number).exists():
            return attempt_config(run.attempt(number))
    return run.config()


def resumed_config(run: RunDirectory, attempt: int, overrides: dict[str, Any]) -> RunConfig:
    """The configuration of an attempt that follows `attempt`.

    Raises: RunDirectoryError, ConfigError when there is none, or the overrides do not fit it.
    """
    return RunConfig.parse(merge(newest_config(run, attempt).to_dict(), overrides))


def begin_attempt(run: RunDirectory, record: RunRecord) -> None:
    """Write the file with which the attempt that `record` asks for begins.

    Raises: FileExistsError when it began already.
    """
    checkpoint = record.resume_from
    if checkpoint is None:
        found = newest(run)
        checkpoint = None if found is None else str(found.relative_to(run.path))
    run.write_attempt(
        AttemptRecord(
            attempt=record.attempt,
            reason="started" if record.attempt == 1 else "resumed",
            created_at=clock.now(),
            checkpoint=checkpoint,
            config=resumed_config(run, record.attempt, record.resume_config).to_dict(),
        )
    )

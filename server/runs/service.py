"""What may be asked of runs: creating, changing, commanding, removing them."""

import hashlib
import json
import logging
import threading
import time

from server.checkpoints.scan import complete
from server.errors import ConflictError, DiskFullError, NotFoundError
from server.metrics.ingest import Ingest, has_processes
from server.runs import store
from server.runs.attempts import resumed_config
from server.runs.index import RunIndex
from server.runs.plausible import check_integer, check_name, check_plain, check_tags
from server.runs.store import RunRow
from xoron_core.contract.api import CreateRun, PatchRun, ResumeRun, RunCommand, StopRun
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import RUN_ID, RunDirectory, RunRecord, new_record
from xoron_core.contract.sources import check_sources
from xoron_core.contract.states import ENDED, LIVE, RunState, check_transition

log = logging.getLogger(__name__)

KEEPER_EXIT_S = 1.0


class RunService:
    """Decides. One change at a time: `lock` is also held by the scheduler while it launches."""

    def __init__(self, index: RunIndex, ingest: Ingest) -> None:
        self.lock = threading.RLock()
        self._index = index
        self._ingest = ingest

    def validate(self, body: CreateRun) -> RunConfig:
        """The configuration that a request asks for.

        Raises: ConfigError with every problem found.
        """
        check_plain(body.config)
        check_tags(body.tags)
        if body.name is not None:
            check_name(body.name)
        config = resolve(body.preset, body.config)
        check_sources(config)
        return config

    def create(self, body: CreateRun, idempotency_key: str | None) -> tuple[RunRow, bool]:
        """Create a run, or find the one that the same request created; whether it is new.

        Raises: ConfigError; ConflictError when the key came with another body; DiskFullError.
        """
        config = self.validate(body)
        with self.lock:
            stored_key = None
            if idempotency_key is not None:
                stored_key = f"{idempotency_key}#{_digest(body)}"
                with self._index.database.read() as connection:
                    known = store.by_key(connection, idempotency_key)
                if known is not None and known.record.idempotency_key == stored_key:
                    return known, False
                if known is not None:
                    raise ConflictError(
                        f"Idempotency-Key {idempotency_key!r} was used for run {known.id} with another body; "
                        "take a new key for another run"
                    )
            self._check_disk(config)
            record = new_record(body.name or "run", preset=body.preset, tags=body.tags, idempotency_key=stored_key)
            if body.name is None:
                record.name = f"{body.preset or 'run'}-{record.id.rsplit('-', 1)[-1]}"
            run = RunDirectory.create(self._index.home.runs, record, config)
            return self._index.refresh(run.id), True

    def patch(self, run_id: str, body: PatchRun) -> RunRow:
        """Rename, tag or reorder a run."""
        if body.tags is not None:
            check_tags(body.tags)
        if body.name is not None:
            check_name(body.name)
        if body.priority is not None:
            check_integer("priority", body.priority)
        with self.lock:
            run = self._index.directory(run_id)
            record = run.record()
            given = {key: value for key, value in body.model_dump().items() if value is not None}
            changed = record.model_copy(update=given)
            if changed != record:
                run.write_record(changed)
            return self._index.refresh(run_id)

    def stop(self, run_id: str, body: StopRun) -> RunRow:
        """End a run, with a checkpoint unless told otherwise."""
        with self.lock:
            row, run = self._fresh(run_id, body)
            if row.state in {RunState.STOPPING, RunState.STOPPED}:
                return row
            if row.state is RunState.PAUSED:
                return self._want(run, row, "stopped", RunState.STOPPED)
            check_transition(row.state, RunState.STOPPING)
            run.commands.post(CommandKind.STOP, row.attempt, save=body.save)
            return self._want(run, row, "stopped", RunState.STOPPING)

    def pause(self, run_id: str, body: RunCommand) -> RunRow:
        """Checkpoint and give the machine free; the place in the queue is kept."""
        with self.lock:
            row, run = self._fresh(run_id, body)
            if row.state in {RunState.PAUSING, RunState.PAUSED}:
                return row
            check_transition(row.state, RunState.PAUSING)
            run.commands.post(CommandKind.PAUSE, row.attempt)
            return self._want(run, row, "paused", RunState.PAUSING)

    def cancel(self, run_id: str, body: RunCommand) -> RunRow:
        """End a run for good."""
        with self.lock:
            row, run = self._fresh(run_id, body)
            if row.state is RunState.CANCELLED or (row.state is RunState.STOPPING and row.record.wanted == "cancelled"):
                return row
            if row.state in {RunState.QUEUED, RunState.PAUSED, RunState.STOPPING}:
                target = RunState.CANCELLED
            else:
                target = RunState.STOPPING
            check_transition(row.state, target)
            if row.state in LIVE:
                run.commands.post(CommandKind.CANCEL, row.attempt)
            return self._want(run, row, "cancelled", target)

    def request(self, run_id: str, kind: CommandKind, body: RunCommand) -> RunRow:
        """Ask a running trainer for a checkpoint or for samples."""
        with self.lock:
            row, run = self._fresh(run_id, body)
            if row.state is not RunState.RUNNING:
                raise ConflictError(f"a {kind} can be asked of a run that is running, and this one is {row.state}")
            run.commands.post(kind, row.attempt)
            return row

    def resume(self, run_id: str, body: ResumeRun) -> RunRow:
        """Put a run into the queue again, from a checkpoint.

        Raises: ConfigError for a checkpoint or configuration that will not do; StateError; DiskFullError.
        """
        with self.lock:
            row, run = self._fresh(run_id, body)
            is_under_way = row.state in {RunState.QUEUED, RunState.STARTING} and row.attempt > 1
            is_same = body.checkpoint in {None, row.record.resume_from} and body.config == row.record.resume_config
            if is_under_way and is_same:
                return row  # asked twice
            check_transition(row.state, RunState.QUEUED)
            _check_checkpoint(run, body.checkpoint)
            check_plain(body.config)
            config = resumed_config(run, row.attempt, body.config)
            check_sources(config)
            self._check_disk(config)
            update = {
                "attempt": row.attempt + 1,
                "wanted": "running",
                "resume_from": body.checkpoint,
                "resume_config": body.config,
            }
            run.write_record(row.record.model_copy(update=update))
            return self._index.refresh(run_id)

    def delete(self, run_id: str) -> None:
        """Move a run that has ended to the trash.

        Raises: ConflictError while it has not.
        """
        _wait_until_gone(self._index.directory(run_id))
        with self.lock:
            row, run = self._fresh(run_id, RunCommand())
            if row.state not in ENDED:
                raise ConflictError(f"a run that is {row.state} cannot be deleted; stop or cancel it first")
            if has_processes(run):
                raise ConflictError(f"run {run_id} is {row.state}, but its trainer is still closing; try again soon")
            run.path.rename(self._index.home.trash / run_id)
            self._ingest.forget(run_id)
            self._index.remove(run_id)

    def restore(self, run_id: str) -> RunRow:
        """Bring a deleted run back.

        Raises: NotFoundError when it is not in the trash; ConflictError when it was never deleted.
        """
        with self.lock:
            source = RunDirectory(self._index.home.trash / run_id)
            if run_id in self._index.known():
                raise ConflictError(f"run {run_id} is not deleted")
            if not RUN_ID.match(run_id) or not source.run_file.exists():
                raise NotFoundError(f"there is no deleted run {run_id!r}")
            source.path.rename(self._index.home.runs / run_id)
            self._index.refresh(run_id)
            self._ingest.catch_up(run_id)
            return self._index.row(run_id)

    def _fresh(self, run_id: str, body: RunCommand) -> tuple[RunRow, RunDirectory]:
        """The run as its files say now.

        Raises: NotFoundError; ConflictError when it is at another attempt than the caller thinks.
        """
        row = self._index.refresh(run_id)
        if body.expected_attempt is not None and body.expected_attempt != row.attempt:
            raise ConflictError(
                f"run {run_id} is at attempt {row.attempt}, not at {body.expected_attempt}; look at it again first"
            )
        return row, self._index.directory(run_id)

    def _want(self, run: RunDirectory, row: RunRow, wanted: str, target: RunState) -> RunRow:
        check_transition(row.state, target)
        record: RunRecord = row.record.model_copy(update={"wanted": wanted})
        run.write_record(record)
        return self._index.refresh(run.id)

    def _check_disk(self, config: RunConfig) -> None:
        free, required = self._index.home.free_gib(), config.trouble.min_free_disk_gib
        if free < required:
            raise DiskFullError(
                f"{free:.2f} GiB are free at {self._index.home.path} and {required:g} GiB are required; "
                "free some space or lower trouble.min_free_disk_gib"
            )


def _wait_until_gone(run: RunDirectory) -> None:
    """A keeper is there for some milliseconds after it said how its run ended; no longer than that is waited for."""
    deadline = time.monotonic() + KEEPER_EXIT_S
    while has_processes(run) and time.monotonic() < deadline:
        time.sleep(0.02)


def _check_checkpoint(run: RunDirectory, checkpoint: str | None) -> None:
    if checkpoint is None:
        return
    known = [str(path.relative_to(run.path)) for path in complete(run).values()]
    if checkpoint not in known:
        raise ConfigError.of(
            "checkpoint", f"is not complete or not there; there are: {', '.join(known) or 'none'}", checkpoint
        )


def _digest(body: CreateRun) -> str:
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

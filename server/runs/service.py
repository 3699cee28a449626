"""What may be asked of runs: creating, changing, commanding, removing them."""

import hashlib
import json
import logging
import threading
import time

from server.checkpoints.scan import complete
from server.errors import ConflictError, DiskFullError, NotFoundError
from server.metrics.ingest import Ingest
from server.runs import store
from server.runs.attempts import newest_attempt, resumed_config
from server.runs.index import RunIndex
from server.runs.leftovers import has_processes
from server.runs.plausible import check_gpus, check_integer, check_name, check_plain, check_tags
from server.runs.queue import exchanged, leaving_reason
from server.runs.standing import ending_commands
from server.runs.store import RunRow
from xoron_core.contract.api import CreateRun, PatchRun, QueueOrder, ResumeRun, RunCommand, StopRun
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.presets import resolve
from xoron_core.contract.run_directory import RUN_ID, RunDirectory, RunRecord, new_record
from xoron_core.contract.sources import check_sources
from xoron_core.contract.states import ENDED, LIVE, RunState, check_transition

log = logging.getLogger(__name__)

KEEPER_EXIT_S = 1.0
_WITHOUT_KEEPER = frozenset({RunState.QUEUED, RunState.PAUSED})
_STRENGTH = ("running", "paused", "stopped", "cancelled")
"""Of what a run is wanted to become, each outweighs those before it."""


class RunService:
    """Decides. One change at a time: `lock` is also held by the scheduler while it launches."""

    def __init__(self, index: RunIndex, ingest: Ingest, num_gpus: int) -> None:
        self.lock = threading.RLock()
        self._index = index
        self._ingest = ingest
        self._num_gpus = num_gpus

    def validate(self, body: CreateRun) -> RunConfig:
        """The configuration that a request asks for.

        Raises: ConfigError with every problem found.
        """
        check_plain(body.config)
        check_tags(body.tags)
        if body.name is not None:
            check_name(body.name)
        check_integer("priority", body.priority)
        config = resolve(body.preset, body.config)
        check_sources(config)
        check_gpus(config, self._num_gpus)
        return config

    def create(self, body: CreateRun, idempotency_key: str | None) -> tuple[RunRow, bool]:
        """Create a run, or find the one that the same request created; whether it is new.

        Raises: ConfigError; ConflictError when the key came with another body; DiskFullError.
        """
        config = self.validate(body)
        with self.lock:
            stored_key = None if idempotency_key is None else f"{idempotency_key}#{_digest(body)}"
            with self._index.database.read() as connection:
                self._index.database.require()
                known = None if idempotency_key is None else store.by_key(connection, idempotency_key)
            if known is not None and known.record.idempotency_key == stored_key:
                return known, False
            if known is not None:
                raise ConflictError(
                    f"Idempotency-Key {idempotency_key!r} was used for run {known.id} with another body; "
                    "take a new key for another run"
                )
            self._check_disk(config)
            record = new_record(
                body.name or "run",
                preset=body.preset,
                tags=body.tags,
                idempotency_key=stored_key,
                priority=body.priority,
                place=self._behind_all(),
            )
            if body.name is None:
                record.name = f"{body.preset or 'run'}-{record.id.rsplit('-', 1)[-1]}"
            run = RunDirectory.create(self._index.home.runs, record, config)
            return self._index.look(run.id), True

    def patch(self, run_id: str, body: PatchRun) -> RunRow:
        """Rename, tag or reorder a run."""
        if body.tags is not None:
            check_tags(body.tags)
        if body.name is not None:
            check_name(body.name)
        if body.priority is not None:
            check_integer("priority", body.priority)
        with self.lock:
            self._index.database.require()
            run = self._index.directory(run_id)
            record = run.record()
            given = {key: value for key, value in body.model_dump().items() if value is not None}
            changed = record.model_copy(update=given)
            if changed != record:
                run.write_record(changed)
            return self._index.look(run_id)

    def queue(self) -> list[RunRow]:
        """The runs that wait, the next one first."""
        with self._index.database.read() as connection:
            return store.queue(connection)

    def reorder(self, body: QueueOrder) -> list[RunRow]:
        """Let waiting runs exchange their places, so that they stand in the order given; the whole queue.

        Raises: ConfigError for a run that is named twice or not there; ConflictError for one that does not wait.
        """
        if len(set(body.runs)) < len(body.runs):
            raise ConfigError.of("runs", "a run stands there twice", body.runs)
        with self.lock:
            self._index.database.require()
            for run_id in body.runs:
                self._check_waits(run_id)
            for run_id, (priority, place) in exchanged(self.queue(), body.runs).items():
                run = self._index.directory(run_id)
                run.write_record(run.record().model_copy(update={"priority": priority, "place": place}))
                self._index.look(run_id)
            return self.queue()

    def _check_waits(self, run_id: str) -> None:
        try:
            row = self._index.refresh(run_id)
        except NotFoundError as error:
            raise ConfigError.of("runs", "there is no such run", run_id) from error
        if row.state is not RunState.QUEUED:
            raise ConflictError(f"run {run_id} is {row.state}; only runs that are queued have a place to exchange")

    def stop(self, run_id: str, body: StopRun) -> RunRow:
        """End a run, with a checkpoint unless told otherwise; one that waits is taken out of the queue."""
        with self.lock:
            row, run = self._fresh(run_id, body)
            if row.state is RunState.STOPPING and not body.save:
                asked = ending_commands(run, row.standing.line, row.attempt)
                if all(command.save for command in asked):  # somebody who waits for a checkpoint may lose patience
                    run.commands.post(CommandKind.STOP, row.attempt, save=False)
            if row.state in {RunState.STOPPING, RunState.STOPPED}:
                return row
            if row.state in _WITHOUT_KEEPER:
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
            if row.state in _WITHOUT_KEEPER:
                return self._want(run, row, "paused", RunState.PAUSED)
            check_transition(row.state, RunState.PAUSING)
            run.commands.post(CommandKind.PAUSE, row.attempt)
            return self._want(run, row, "paused", RunState.PAUSING)

    def cancel(self, run_id: str, body: RunCommand) -> RunRow:
        """End a run for good."""
        with self.lock:
            row, run = self._fresh(run_id, body)
            if row.state is RunState.CANCELLED or (row.state is RunState.STOPPING and row.record.wanted == "cancelled"):
                return row
            is_quick = row.state in {*_WITHOUT_KEEPER, RunState.STOPPING}
            target = RunState.CANCELLED if is_quick else RunState.STOPPING
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
            self._index.database.require()
            has_begun = run.attempt_file(row.attempt).exists()
            known = row.record.resume_config
            is_under_way = row.state in {RunState.QUEUED, RunState.STARTING}
            if (
                is_under_way
                and row.record.wanted == "running"
                and body.checkpoint in {None, row.record.resume_from}
                and merge(known, body.config) == known
            ):
                return row  # asked twice
            if row.state is RunState.QUEUED and row.record.wanted != "running":
                raise ConflictError(f"run {run_id} {leaving_reason(row.record.wanted)}; resume it then")
            check_transition(row.state, RunState.QUEUED)
            _check_checkpoint(run, body.checkpoint)
            check_plain(body.config)
            overrides = body.config if has_begun else merge(known, body.config)
            config = resumed_config(run, row.attempt, overrides)
            check_sources(config)
            check_gpus(config, self._num_gpus)
            self._check_disk(config)
            update = {
                "attempt": newest_attempt(run) + 1,
                "wanted": "running",
                "resumed_by": "person",
                "place": row.record.place if row.state is RunState.PAUSED else self._behind_all(),
                "resume_from": body.checkpoint if has_begun else body.checkpoint or row.record.resume_from,
                "resume_config": overrides,
            }
            run.write_record(row.record.model_copy(update=update))
            return self._index.look(run_id)

    def resume_by_itself(self, run: RunDirectory, row: RunRow, checkpoint: str | None) -> RunRow:
        """Put an interrupted run into the queue again, in its old place; the caller holds the lock."""
        check_transition(row.state, RunState.QUEUED)
        update = {
            "attempt": newest_attempt(run) + 1,
            "resumed_by": "server",
            "resume_from": checkpoint,
            "resume_config": {},
        }
        run.write_record(row.record.model_copy(update=update))
        return self._index.refresh(run.id)

    def delete(self, run_id: str) -> None:
        """Move a run that has ended to the trash.

        Raises: ConflictError while it has not.
        """
        _wait_until_gone(self._index.directory(run_id))
        with self.lock:
            self._index.database.require()
            row, run = self._fresh(run_id, RunCommand())
            if row.state not in ENDED:
                raise ConflictError(f"a run that is {row.state} cannot be deleted; stop or cancel it first")
            if has_processes(run):
                raise ConflictError(f"run {run_id} is {row.state}, but its trainer is still closing; try again soon")
            if row.state is RunState.INTERRUPTED:  # brought back, it must not go on unasked
                run.write_record(row.record.model_copy(update={"wanted": "stopped"}))
            run.path.rename(self._index.home.trash / run_id)
            self._ingest.forget(run_id)
            self._index.remove(run_id)

    def restore(self, run_id: str) -> RunRow:
        """Bring a deleted run back.

        Raises: NotFoundError when it is not in the trash; ConflictError when it was never deleted.
        """
        with self.lock:
            self._index.database.require()
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
        row = self._index.look(run_id)
        if body.expected_attempt is not None and body.expected_attempt != row.attempt:
            raise ConflictError(
                f"run {run_id} is at attempt {row.attempt}, not at {body.expected_attempt}; look at it again first"
            )
        return row, self._index.directory(run_id)

    def _want(self, run: RunDirectory, row: RunRow, wanted: str, target: RunState) -> RunRow:
        check_transition(row.state, target)
        if _STRENGTH.index(wanted) < _STRENGTH.index(row.record.wanted):
            return row
        record: RunRecord = row.record.model_copy(update={"wanted": wanted})
        run.write_record(record)
        return self._index.look(run.id)

    def _behind_all(self) -> float:
        """The place behind that of every other run."""
        with self._index.database.read() as connection:
            return store.last_place(connection) + 1

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

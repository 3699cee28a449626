"""`HOME/runs/<run_id>/`: every name in it, and the records that its files hold."""

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml import YAMLError

from xoron_core.contract import CONTRACT_VERSION, clock
from xoron_core.contract.commands import CommandBox
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.files import model_to_yaml, parse_yaml, to_json, write_atomic, write_new
from xoron_core.contract.process import ProcessIdentity

RUN_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}\Z")


class Record(BaseModel):
    """A file's content; keys of a later version are kept out, not guessed at."""

    model_config = ConfigDict(extra="forbid")


class RunRecord(Record):
    """`run.json`: whatever is not configuration, so that the index can be rebuilt. Written by the server."""

    contract_version: int = CONTRACT_VERSION
    id: str
    name: str = Field(min_length=1, max_length=200)
    preset: str | None = None
    tags: list[str] = Field(default_factory=list)
    priority: int = 0
    parent: str | None = None
    idempotency_key: str | None = None
    created_at: str
    wanted: Literal["running", "paused", "stopped", "cancelled"] = "running"
    attempt: int = Field(default=1, ge=1, description="The newest attempt that was asked for.")
    place: float = Field(default=0.0, description="In the queue, among runs of one priority; the smallest is next.")
    resumed_by: Literal["person", "server"] = Field(
        default="person", description="Who asked for the newest attempt; the server does when the run was interrupted."
    )
    resume_from: str | None = Field(
        default=None,
        description="Checkpoint that attempt starts from, relative to the run directory; null: the newest.",
    )
    resume_config: dict[str, Any] = Field(
        default_factory=dict, description="Laid over the configuration of the attempt before."
    )


class AttemptRecord(Record):
    """`attempts/<4 digits>.yaml`: what one start of the trainer was given. Written once, by whoever starts it."""

    attempt: int = Field(ge=1)
    cause: Literal["started", "resumed"] | Failure = Field(
        default="resumed", description="Who or what made it: a person, or the failure of the attempt before."
    )
    reason: str
    created_at: str
    checkpoint: str | None = Field(description="Relative to the run directory; null: from the beginning.")
    skip: list[str] = Field(default_factory=list, description="Samples to leave out, `source[index]`.")
    config: dict[str, Any]


class KeeperRecord(Record):
    """`keeper.json`: who looks after the run now."""

    attempt: int
    keeper: ProcessIdentity
    trainer: ProcessIdentity | None = None
    started_at: str
    inode: int | None = Field(default=None, description="Of the run's directory: a copy of it has another.")
    gpus: list[str] = Field(default_factory=list, description="UUIDs of the GPUs that it has leased.")


class AttemptExit(Record):
    """How one attempt ended."""

    attempt: int
    exit_code: int | None = None
    signal: int | None = None
    state: str
    reason: str
    ended_at: str
    failure: Failure | None = None
    step: int = Field(default=0, description="The last step that was done.")


class RankEnd(Record):
    """`ends/<attempt>-<rank>.json`: the last words of one rank, which a launcher between it and the keeper would
    swallow. Written by the rank."""

    attempt: int
    rank: int
    code: int
    reason: str | None = Field(description="The error in one line; null where there was none.")
    step: int
    time: str
    bad_since_step: int | None = Field(default=None, description="First of the steps in a row that were not finite.")
    bad_samples: list[str] = Field(default_factory=list, description="What those steps were trained on.")


class ExitRecord(Record):
    """`exit.json`: how every attempt ended, in order. Written by the keeper."""

    attempts: list[AttemptExit] = Field(default_factory=list)


R = TypeVar("R", bound=Record)


class RunDirectory:
    """Paths and records of one run; reading never creates anything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.run_file = path / "run.json"
        self.config_file = path / "config.yaml"
        self.keeper_file = path / "keeper.json"
        self.exit_file = path / "exit.json"
        self.log_file = path / "train.log"
        self.attempts = path / "attempts"
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.ends = path / "ends"
        self.beat_file = path / "beat"
        self.commands = CommandBox(path / "commands")
        self.source_cache = path.absolute().parent.parent / "cache" / "sources"
        """Indexes of data files, of all runs of the home; it can be deleted."""
        self.compile_cache = self.source_cache.with_name("compiled")
        """What torch compiled for them; likewise."""

    @classmethod
    def create(cls, runs: Path, record: RunRecord, config: RunConfig) -> Self:
        """Make a run's directory with its configuration, which never changes again. `run.json` comes last: without
        it there is no run.

        Raises: RunDirectoryError when the id is taken or not a valid one.
        """
        if not RUN_ID.match(record.id):
            raise RunDirectoryError(f"run id {record.id!r} is not of the form {RUN_ID.pattern}")
        run = cls(runs / record.id)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError as error:
            raise RunDirectoryError(f"there is a run {record.id!r} already") from error
        for folder in (run.attempts, run.checkpoints, run.samples, run.ends, run.commands.directory):
            folder.mkdir()
        write_new(run.config_file, model_to_yaml(config))
        run.write_record(record)
        return run

    def record(self) -> RunRecord:
        """`run.json`.

        Raises: RunDirectoryError when it is missing, malformed or of another contract version.
        """
        record = _read(self.run_file, RunRecord)
        if record.contract_version != CONTRACT_VERSION:
            raise RunDirectoryError(
                f"{self.run_file} has contract version {record.contract_version}, this program knows {CONTRACT_VERSION}"
            )
        return record

    def write_record(self, record: RunRecord) -> None:
        """Replace `run.json`."""
        write_atomic(self.run_file, to_json(record))

    def config(self) -> RunConfig:
        """`config.yaml`.

        Raises: RunDirectoryError when it is missing or not YAML; ConfigError when it is not a configuration.
        """
        return RunConfig.parse(_read_yaml(self.config_file))

    def attempt_file(self, attempt: int) -> Path:
        """Where an attempt's record stands."""
        return self.attempts / f"{attempt:04d}.yaml"

    def attempt(self, attempt: int) -> AttemptRecord:
        """One attempt's record.

        Raises: RunDirectoryError when it is missing or malformed.
        """
        path = self.attempt_file(attempt)
        return _validated(AttemptRecord, _read_yaml(path), path)

    def write_attempt(self, record: AttemptRecord) -> None:
        """Write an attempt's record, once.

        Raises: FileExistsError when that attempt was begun already.
        """
        write_new(self.attempt_file(record.attempt), model_to_yaml(record))

    def keeper(self) -> KeeperRecord | None:
        """`keeper.json`, or None before the first keeper."""
        return _read(self.keeper_file, KeeperRecord) if self.keeper_file.exists() else None

    def own_keeper(self) -> KeeperRecord | None:
        """`keeper.json`, unless it came here with a copy of the directory (a backup, say): the keeper that it names
        knows nothing of this one."""
        keeper = self.keeper()
        return keeper if keeper is not None and keeper.inode in {None, self.path.stat().st_ino} else None

    def exits(self) -> ExitRecord:
        """`exit.json`; empty before the first attempt ended."""
        return _read(self.exit_file, ExitRecord) if self.exit_file.exists() else ExitRecord()

    def write_rank_end(self, end: RankEnd) -> None:
        """Write a rank's last words."""
        self.ends.mkdir(exist_ok=True)
        write_atomic(self.ends / f"{end.attempt:04d}-{end.rank:04d}.json", to_json(end))

    def rank_ends(self, attempt: int) -> list[RankEnd]:
        """The last words of an attempt's ranks, the earliest first; a rank that was killed has none.

        Raises: RunDirectoryError when a file is malformed.
        """
        found = [_read(path, RankEnd) for path in sorted(self.ends.glob(f"{attempt:04d}-*.json"))]
        return sorted(found, key=lambda end: end.time)

    def line(self, attempt: int) -> list[AttemptRecord]:
        """The attempts up to this one that followed from one another by themselves, the one that a person asked for
        first.

        Raises: RunDirectoryError when a file is missing or malformed.
        """
        line = [self.attempt(attempt)]
        while isinstance(line[0].cause, Failure) and line[0].attempt > 1:
            line.insert(0, self.attempt(line[0].attempt - 1))
        return line

    def checkpoint_dir(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""
        return self.checkpoints / f"step-{step:08d}"

    def sample_dir(self, step: int) -> Path:
        """Where the samples of a step stand."""
        return self.samples / f"step-{step:08d}"

    def inside(self, relative: str) -> Path:
        """The path of a file in this run.

        Raises: RunDirectoryError when `relative` leads out of the run, by `..`, a link or an absolute path.
        """
        try:
            path = (self.path / relative).resolve()
        except (ValueError, RuntimeError) as error:  # a null byte; links in a circle
            raise RunDirectoryError(f"{relative!r} is not a path: {error}") from error
        if not path.is_relative_to(self.path.resolve()):
            raise RunDirectoryError(f"{relative!r} leads out of the run's directory")
        return path


def new_run_id() -> str:
    """An id that sorts by the moment of creation, e.g. `20260131-120000-k3f9`."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    suffix = "".join(secrets.choice(alphabet) for _ in range(4))
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{suffix}"


def new_record(
    name: str,
    *,
    preset: str | None = None,
    tags: list[str] | None = None,
    idempotency_key: str | None = None,
    parent: str | None = None,
    priority: int = 0,
    place: float = 0.0,
) -> RunRecord:
    """The record of a run that is about to be created."""
    return RunRecord(
        id=new_run_id(),
        name=name,
        preset=preset,
        tags=tags or [],
        idempotency_key=idempotency_key,
        parent=parent,
        priority=priority,
        place=place,
        created_at=clock.now(),
    )


def _read(path: Path, model: type[R]) -> R:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunDirectoryError(f"{path} is missing") from error
    except ValidationError as error:
        raise RunDirectoryError(f"{path} is malformed: {error}") from error


def _read_yaml(path: Path) -> Any:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunDirectoryError(f"{path} is missing") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise RunDirectoryError(f"{path} is malformed: {error}") from error


def _validated(model: type[R], data: Any, path: Path) -> R:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RunDirectoryError(f"{path} is malformed: {error}") from error


def attempt_config(record: AttemptRecord) -> RunConfig:
    """The configuration of an attempt.

    Raises: ConfigError when it is not one.
    """
    return RunConfig.parse(record.config)

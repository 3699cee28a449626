"""What a run says of itself: the records of `events.jsonl`."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.errors import BadKind
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.states import RunState


class Event(BaseModel):
    """Base of every event body; the writer adds `seq`, `time` and `attempt` in front."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str


class MetricsEvent(Event):
    """Values of one optimizer step; a non-finite value is null here and told by a `non_finite` event."""

    kind: Literal["metrics"] = "metrics"
    step: int
    tokens: int = Field(description="Text tokens consumed since the run began.")
    samples: int = Field(description="Samples of all modalities consumed since the run began.")
    values: dict[str, float | None]


class EvalEvent(Event):
    """Values on held-out data, under `eval/…` names."""

    kind: Literal["eval"] = "eval"
    step: int
    tokens: int
    samples: int
    seconds: float
    values: dict[str, float | None]


class StateEvent(Event):
    """A change of state, with the reason a person would want to read."""

    kind: Literal["state"] = "state"
    state: RunState
    reason: str | None = None


PhaseName = Literal[
    "setup",
    "data",
    "model",
    "restoring",
    "training",
    "evaluating",
    "sampling",
    "waiting",
    "requested",
    "draining",
    "saving",
    "verified",
    "closing",
    "exited",
    "memory_free",
    "backing_off",
]
"""`waiting`: for room on the disk. An end goes through `requested` (the trainer knows of it), `draining` (the step
under way is finished or dropped), `saving`, `verified` (the checkpoint was read back), `closing`, `exited` (no process
is left), `memory_free` (nor is anything on the GPUs). `backing_off`: before another attempt."""


class PhaseEvent(Event):
    """What the run is doing within its state; `deadline` is when the keeper will no longer wait."""

    kind: Literal["phase"] = "phase"
    phase: PhaseName
    detail: str | None = None
    deadline: str | None = None


class CommandEvent(Event):
    """The trainer's answer to a command file."""

    kind: Literal["command"] = "command"
    id: int
    command: CommandKind
    status: Literal["accepted", "done", "ignored"]
    detail: str | None = None


class CheckpointEvent(Event):
    """A checkpoint that is complete on disk."""

    kind: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str = Field(description="Relative to the run directory.")
    reason: Literal["periodic", "requested", "best", "ending", "final"]
    bytes: int
    seconds: float


class SampleEvent(Event):
    """One file of a sample, under `samples/`; files that differ in their suffix only are one sample."""

    kind: Literal["sample"] = "sample"
    step: int
    modality: str
    path: str = Field(description="Relative to the run directory.")
    mime: str
    caption: str = Field(description="What was asked of the model.")
    expected: str | None = Field(None, description="The truth, where there is one.")


class ReceiptEvent(Event):
    """What an attempt took over from the checkpoint it began with, field by field."""

    kind: Literal["receipt"] = "receipt"
    checkpoint: str
    step: int
    restored: list[str]
    reset: list[str] = Field(description="Left at their start values, which the configuration asks for.")
    missing: list[str] = Field(description="Looked for in the checkpoint in vain.")
    hashes: dict[str, str] = Field(
        default_factory=dict, description="SHA-256 of every restored field, as it stands in memory afterwards."
    )


class NonFiniteEvent(Event):
    """A value that was not a number, with what was being trained on."""

    kind: Literal["non_finite"] = "non_finite"
    step: int
    name: str
    value: Literal["nan", "inf", "-inf"]
    modality: str | None = None
    sample_ids: list[str] = Field(default_factory=list)


class TroubleEvent(Event):
    """Something went wrong and this is what was done about it."""

    kind: Literal["trouble"] = "trouble"
    action: Literal["none", "skip", "restart", "rollback", "pause", "terminate", "kill"]
    reason: str
    failure: Failure | None = Field(None, description="What went wrong with the attempt, where it ended by it.")


class BadSampleEvent(Event):
    """A sample that could not be read; training goes on with the next. Of many alike, the first few are told."""

    kind: Literal["bad_sample"] = "bad_sample"
    source: str
    index: int
    problem: BadKind = "unreadable"
    reason: str
    count: int = Field(description="Bad samples of this source so far in this run.")


class AlertEvent(Event):
    """Something a person should look at."""

    kind: Literal["alert"] = "alert"
    level: Literal["info", "warning", "error"]
    message: str


class LogEvent(Event):
    """A line of the trainer's own log that belongs to the run's story."""

    kind: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"]
    message: str


class StampedEvent(BaseModel):
    """A record as it stands in the file. Kinds and fields this version does not know are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    seq: int = Field(ge=1)
    time: str
    attempt: int = Field(ge=1)
    kind: str

    KNOWN: ClassVar[dict[str, type[Event]]] = {
        model.model_fields["kind"].default: model
        for model in (
            MetricsEvent,
            EvalEvent,
            StateEvent,
            PhaseEvent,
            CommandEvent,
            CheckpointEvent,
            SampleEvent,
            ReceiptEvent,
            NonFiniteEvent,
            TroubleEvent,
            BadSampleEvent,
            AlertEvent,
            LogEvent,
        )
    }

    def body(self) -> Event | None:
        """The typed body, or None for a kind that this version does not know.

        Raises: pydantic.ValidationError when a known kind has fields it should not have.
        """
        model = self.KNOWN.get(self.kind)
        extra: dict[str, Any] = self.model_extra or {}
        return None if model is None else model.model_validate({"kind": self.kind, **extra})

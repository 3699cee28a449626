"""What the REST and WebSocket API sends and takes; the server answers with these and the client reads them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.modalities.base import ModalityInfo
from xoron_core.contract.states import RunState


class ApiModel(BaseModel):
    """Base of every body."""

    model_config = ConfigDict(extra="forbid")


class CreateRun(ApiModel):
    """`POST /runs` and `POST /validate`."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    preset: str | None = Field(default=None, description="Where to start from; `GET /presets` lists them.")
    config: dict[str, Any] = Field(default_factory=dict, description="Laid over the preset, key by key.")
    tags: list[str] = Field(default_factory=list, max_length=20)
    priority: int = Field(default=0, description="Runs of a higher one are started first.")


class PatchRun(ApiModel):
    """`PATCH /runs/{id}`; what is left out stays."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    tags: list[str] | None = Field(default=None, max_length=20)
    priority: int | None = None


class RunCommand(ApiModel):
    """`POST /runs/{id}/pause`, `/cancel`, `/checkpoint`, `/sample`."""

    expected_attempt: int | None = Field(default=None, description="409 when the run is at another attempt by now.")


class StopRun(RunCommand):
    """`POST /runs/{id}/stop`."""

    save: bool = Field(default=True, description="Write a checkpoint before ending.")


class ResumeRun(RunCommand):
    """`POST /runs/{id}/resume`."""

    checkpoint: str | None = Field(default=None, description="E.g. `checkpoints/step-00000300`; null: the newest.")
    config: dict[str, Any] = Field(default_factory=dict, description="Laid over the configuration that it ran with.")


class QueueOrder(ApiModel):
    """`PUT /queue`."""

    runs: list[str] = Field(min_length=1, description="Waiting runs that exchange their places, the first one first.")


class Waiting(ApiModel):
    """Why a queued run does not run yet."""

    position: int = Field(description="1 is next.")
    reason: str


class RunTrouble(ApiModel):
    """The newest trouble of a run since a person last started it."""

    time: str
    action: str
    failure: Failure | None
    reason: str


class RunPhase(ApiModel):
    """What a live run is doing."""

    phase: str
    detail: str | None = None
    since: str
    deadline: str | None = None


class Run(ApiModel):
    """A run, as lists and pages show it."""

    id: str
    name: str
    preset: str | None
    tags: list[str]
    priority: int
    parent: str | None
    state: RunState
    reason: str | None = Field(description="Why it is in this state, for a person to read.")
    phase: RunPhase | None
    waiting: Waiting | None = Field(description="Where it stands in the queue; null where it does not wait.")
    trouble: RunTrouble | None
    attempt: int
    created_at: str
    started_at: str | None = Field(description="When the first attempt began.")
    updated_at: str = Field(description="When it last said something.")
    ended_at: str | None = Field(description="When it came to rest; null while it is live or queued.")
    step: int
    max_steps: int | None = Field(description="Steps at which it is complete; null where epochs decide.")
    tokens: int
    samples: int
    steps_per_s: float | None
    eta_s: float | None
    latest: dict[str, float | None] = Field(description="The newest value of each modality's headline metric.")
    last_seq: int = Field(description="Number of its newest event.")
    bad_samples: int
    actions: list[Literal["stop", "pause", "resume", "cancel", "checkpoint", "sample", "delete"]] = Field(
        description="What may be asked of it in this state."
    )


class RunPage(ApiModel):
    """`GET /runs`."""

    items: list[Run]
    next_cursor: str | None


class Gpu(ApiModel):
    """A GPU that runs may lease."""

    uuid: str
    name: str
    memory_total: int
    memory_used: int
    run: str | None = Field(description="The run that has leased it.")
    is_leased: bool = Field(description="By whomever: a run of this home, or of another on this machine.")


class Queue(ApiModel):
    """`GET /queue` and `PUT /queue`."""

    items: list[Run] = Field(description="Runs that wait, the next one first.")
    live: list[str] = Field(description="Runs that take a slot now.")
    max_runs: int
    gpus: list[Gpu]


class MetricSummary(ApiModel):
    """One metric in numbers."""

    latest: float | None
    best: float | None
    mean_last_100: float | None
    count: int
    non_finite: int


class ModalityMetrics(ApiModel):
    """One modality of `GET /runs/{id}/metrics`."""

    label: str
    enabled: bool
    metrics: dict[str, MetricSummary]
    eval: dict[str, MetricSummary]
    planned_share: float = Field(description="Share of micro-batches that the configuration asks for.")
    actual_share: float | None = Field(description="Share of micro-batches so far.")
    micro_batches: int
    samples_per_s: float | None
    tokens_per_s: float | None


class RunMetrics(ApiModel):
    """`GET /runs/{id}/metrics`."""

    run: str
    attempt: int
    step: int
    tokens: int
    samples: int
    modalities: dict[str, ModalityMetrics]
    other: dict[str, MetricSummary]


class Series(ApiModel):
    """One curve: parallel lists; where points were thinned, the smallest and largest of each bucket are kept."""

    x: list[float]
    y: list[float | None]
    num_points: int = Field(description="Points in the range before thinning.")


class RunSeries(ApiModel):
    """`GET /runs/{id}/series`."""

    run: str
    x: Literal["step", "tokens", "samples", "time"]
    series: dict[str, Series]
    keys: list[str] = Field(description="Every metric that the run has.")
    last_seq: int = Field(description="The newest event that is counted in; a stream goes on after it.")


class EventPage(ApiModel):
    """`GET /runs/{id}/events`."""

    items: list[dict[str, Any]]
    last_seq: int = Field(description="Ask again with `after` set to this.")


class LogPage(ApiModel):
    """`GET /runs/{id}/logs`."""

    text: str
    offset: int = Field(description="Byte at which `text` begins.")
    end: int = Field(description="Ask again with `after` set to this.")


class Sample(ApiModel):
    """One file of a sample; files that differ in their suffix only are one sample."""

    step: int
    modality: str
    path: str = Field(description="Below `/runs/{id}/`, e.g. `samples/step-00000100/text-0.txt`.")
    mime: str
    caption: str
    expected: str | None
    attempt: int
    time: str


class SamplePage(ApiModel):
    """`GET /runs/{id}/samples`."""

    items: list[Sample]


class Checkpoint(ApiModel):
    """A complete checkpoint."""

    step: int
    path: str
    bytes: int
    created_at: str
    attempt: int


class CheckpointPage(ApiModel):
    """`GET /runs/{id}/checkpoints`."""

    items: list[Checkpoint]


class Preset(ApiModel):
    """A named starting point, resolved."""

    name: str
    config: dict[str, Any]


class PresetPage(ApiModel):
    """`GET /presets`."""

    items: list[Preset]


class SchemaDocument(ApiModel):
    """`GET /schema`: all that a form, a chart or a table needs to know."""

    contract_version: int
    config: dict[str, Any] = Field(description="JSON Schema of a run's configuration.")
    modalities: list[ModalityInfo]
    transitions: dict[RunState, list[RunState]]


class ValidationResult(ApiModel):
    """`POST /validate`."""

    valid: bool
    config: dict[str, Any] | None
    errors: list["ProblemField"]


class SystemInfo(ApiModel):
    """`GET /system`."""

    version: str
    home: str
    hostname: str
    cpu_count: int
    cpu_percent: float
    memory_total: int
    memory_used: int
    disk_free: int
    gpus: list[Gpu]
    torch_installed: bool
    max_runs: int
    live_runs: int


class ProblemField(ApiModel):
    """One field at fault."""

    field: str
    message: str
    value: Any = None


class Problem(ApiModel):
    """Every error's body, `application/problem+json` (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemField] = Field(default_factory=list)


class EventsFrame(ApiModel):
    """WebSocket: the next events of a run."""

    type: Literal["events"] = "events"
    run: str
    events: list[dict[str, Any]]


class RunFrame(ApiModel):
    """WebSocket: a run's row has changed."""

    type: Literal["run"] = "run"
    run: Run


class RemovedFrame(ApiModel):
    """WebSocket: a run was deleted."""

    type: Literal["removed"] = "removed"
    run: str


class ResetFrame(ApiModel):
    """WebSocket: the client was too slow; fetch what is missing and go on after `after`."""

    type: Literal["reset"] = "reset"
    run: str
    after: int


class EndFrame(ApiModel):
    """WebSocket: nothing more will come of this run."""

    type: Literal["end"] = "end"
    run: str


class HeartbeatFrame(ApiModel):
    """WebSocket: every 15 seconds."""

    type: Literal["heartbeat"] = "heartbeat"
    time: str

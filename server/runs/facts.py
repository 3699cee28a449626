"""What a run's events add up to."""

from typing import Any

from pydantic import BaseModel, Field, ValidationError

from xoron_core.contract.derive import LastState
from xoron_core.contract.events import (
    BadSampleEvent,
    Event,
    PhaseEvent,
    ReceiptEvent,
    StampedEvent,
    StateEvent,
    TroubleEvent,
)
from xoron_core.contract.exit_codes import Failure
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.states import RunState

RATE_MEMORY = 0.95
"""Share of the old average in a new one, of seconds a step."""
HEADLINES = tuple(info.metrics[0].name for info in modality_infos().values())
"""The first metric of every modality."""


class Phase(BaseModel):
    """The newest `phase` event."""

    attempt: int
    phase: str
    detail: str | None
    since: str
    deadline: str | None


class StateFact(BaseModel):
    """The newest `state` event."""

    state: RunState
    attempt: int
    time: str
    reason: str | None


class TroubleFact(BaseModel):
    """The newest `trouble` event."""

    attempt: int
    time: str
    action: str
    failure: Failure | None
    reason: str


class RunFacts(BaseModel):
    """The sum of a run's events up to `last_seq`."""

    last_seq: int = 0
    state: StateFact | None = None
    phase: Phase | None = None
    trouble: TroubleFact | None = None
    started_at: str | None = None
    updated_at: str | None = None
    step: int = 0
    tokens: int = 0
    samples: int = 0
    steps_per_s: float | None = None
    latest: dict[str, float | None] = Field(default_factory=dict)
    bad: dict[str, int] = Field(default_factory=dict, description="Bad samples by source.")
    starts: dict[int, int] = Field(default_factory=dict, description="Attempt → step after which it goes on.")
    num_malformed: int = 0

    def last_state(self) -> LastState | None:
        """The newest `state` event as the contract's derivation takes it."""
        if self.state is None:
            return None
        return LastState(self.state.state, self.state.attempt, self.state.time, self.state.reason)

    def cuts(self) -> dict[int, int]:
        """Attempt → last step of it that counts: what a later attempt did again is replaced. Newest: not in it."""
        cuts: dict[int, int] = {}
        limit: int | None = None
        for attempt in sorted(self.starts, reverse=True):
            if limit is not None:
                cuts[attempt] = limit
            limit = self.starts[attempt] if limit is None else min(limit, self.starts[attempt])
        return cuts

    def saw(self, record: dict[str, Any]) -> None:
        """Count a record in that every kind has: its number and time."""
        self.last_seq = int(record["seq"])
        time = record.get("time")
        if isinstance(time, str):
            self.started_at = self.started_at or time
            self.updated_at = time

    def add_metrics(self, attempt: int, step: int, tokens: int, samples: int, values: dict[str, float | None]) -> None:
        """Count the values of one step in."""
        self.starts.setdefault(attempt, step - 1)
        self.step, self.tokens, self.samples = step, tokens, samples
        if rate := values.get("speed/steps_per_s"):
            self._average_rate(rate)
        for name in HEADLINES:
            if name in values:
                self.latest[name] = values[name]

    def _average_rate(self, rate: float) -> None:
        """Steps of different modalities take different times: an estimate must not jump with each."""
        if self.steps_per_s is None:
            self.steps_per_s = rate
        else:
            self.steps_per_s = 1 / (RATE_MEMORY / self.steps_per_s + (1 - RATE_MEMORY) / rate)

    def add(self, stamp: StampedEvent, event: Event) -> None:
        """Count any other event in."""
        if isinstance(event, StateEvent):
            self.state = StateFact(state=event.state, attempt=stamp.attempt, time=stamp.time, reason=event.reason)
        elif isinstance(event, PhaseEvent):
            self.phase = Phase(
                attempt=stamp.attempt,
                phase=event.phase,
                detail=event.detail,
                since=stamp.time,
                deadline=event.deadline,
            )
        elif isinstance(event, TroubleEvent):
            self.trouble = TroubleFact(
                attempt=stamp.attempt,
                time=stamp.time,
                action=event.action,
                failure=event.failure,
                reason=event.reason,
            )
        elif isinstance(event, BadSampleEvent):
            self.bad[event.source] = max(event.count, self.bad.get(event.source, 0))
        elif isinstance(event, ReceiptEvent):
            self.starts[stamp.attempt] = event.step
            self.step = event.step


def typed(record: dict[str, Any]) -> tuple[StampedEvent, Event | None] | None:
    """The stamp and body of a record; None where it is malformed, a body of None where its kind is unknown."""
    try:
        stamp = StampedEvent.model_validate(record)
        return stamp, stamp.body()
    except ValidationError:
        return None

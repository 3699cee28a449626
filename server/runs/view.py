"""A run's row as the API shows it."""

from typing import Literal

from server.runs.facts import StateFact
from server.runs.store import RunRow
from xoron_core.contract.api import Run, RunPhase
from xoron_core.contract.states import ENDED, LIVE, RunState

Action = Literal["stop", "pause", "resume", "cancel", "checkpoint", "sample", "delete"]

ACTIONS: dict[RunState, list[Action]] = {
    RunState.QUEUED: ["cancel"],
    RunState.STARTING: ["stop", "cancel"],
    RunState.RUNNING: ["stop", "pause", "cancel", "checkpoint", "sample"],
    RunState.PAUSING: [],
    RunState.PAUSED: ["resume", "stop", "cancel"],
    RunState.STOPPING: [],
    RunState.RECOVERING: ["stop", "cancel"],
    RunState.STOPPED: ["resume", "delete"],
    RunState.FAILED: ["resume", "delete"],
    RunState.INTERRUPTED: ["resume", "delete"],
    RunState.COMPLETED: ["resume", "delete"],
    RunState.CANCELLED: ["delete"],
}

_DERIVED_REASONS = {
    RunState.QUEUED: "waits for its turn",
    RunState.STARTING: "its keeper is starting the trainer",
    RunState.PAUSING: "asked to pause",
    RunState.STOPPING: "asked to stop",
    RunState.STOPPED: "stopped while no process was at work",
    RunState.CANCELLED: "cancelled while no process was at work",
    RunState.INTERRUPTED: "its processes are gone; resume goes on from the newest checkpoint",
}


def view(row: RunRow) -> Run:
    """What everybody is shown of a run."""
    facts, record, state = row.facts, row.record, row.state
    at_rest = state in ENDED or state is RunState.PAUSED
    is_live = state in LIVE
    phase = facts.phase if is_live and facts.phase is not None and facts.phase.attempt == row.attempt else None
    return Run(
        id=record.id,
        name=record.name,
        preset=record.preset,
        tags=record.tags,
        priority=record.priority,
        parent=record.parent,
        state=state,
        reason=_reason(state, facts.state),
        phase=None if phase is None else RunPhase(**phase.model_dump(exclude={"attempt"})),
        attempt=row.attempt,
        created_at=record.created_at,
        started_at=facts.started_at,
        updated_at=facts.updated_at or record.created_at,
        ended_at=(facts.updated_at or record.created_at) if at_rest else None,
        step=facts.step,
        max_steps=row.max_steps,
        tokens=facts.tokens,
        samples=facts.samples,
        steps_per_s=facts.steps_per_s,
        eta_s=_eta(row) if is_live else None,
        latest=facts.latest,
        last_seq=facts.last_seq,
        bad_samples=sum(facts.bad.values()),
        actions=list(ACTIONS[state]),
    )


def _reason(state: RunState, last: StateFact | None) -> str | None:
    if last is not None and last.state is state:
        return last.reason
    return _DERIVED_REASONS.get(state)


def _eta(row: RunRow) -> float | None:
    if row.max_steps is None or not row.facts.steps_per_s:
        return None
    return max(0.0, (row.max_steps - row.facts.step) / row.facts.steps_per_s)

"""A run's row as the API shows it."""

from typing import Literal

from server.runs.store import RunRow
from xoron_core.contract.api import Run, RunPhase, RunTrouble
from xoron_core.contract.states import ENDED, LIVE, RunState

Action = Literal["stop", "pause", "resume", "cancel", "checkpoint", "sample", "delete"]

ACTIONS: dict[RunState, list[Action]] = {
    RunState.QUEUED: ["stop", "pause", "cancel"],
    RunState.STARTING: ["stop", "pause", "cancel"],
    RunState.RUNNING: ["stop", "pause", "cancel", "checkpoint", "sample"],
    RunState.PAUSING: ["stop", "cancel"],
    RunState.PAUSED: ["resume", "stop", "cancel"],
    RunState.STOPPING: ["stop", "cancel"],
    RunState.RECOVERING: ["stop", "pause", "cancel"],
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
    RunState.PAUSED: "paused while no process was at work",
    RunState.STOPPING: "asked to stop",
    RunState.STOPPED: "stopped while no process was at work",
    RunState.CANCELLED: "cancelled while no process was at work",
    RunState.INTERRUPTED: "its processes are gone; whether it goes on by itself is being looked at",
}


def view(row: RunRow) -> Run:
    """What everybody is shown of a run."""
    facts, record, state = row.facts, row.record, row.state
    at_rest = state in ENDED or state is RunState.PAUSED
    is_live = state in LIVE
    trouble = facts.trouble if facts.trouble is not None and facts.trouble.attempt >= row.standing.line else None
    return Run(
        id=record.id,
        name=record.name,
        preset=record.preset,
        tags=record.tags,
        priority=record.priority,
        parent=record.parent,
        state=state,
        reason=_reason(row),
        phase=_phase(row) if is_live else None,
        waiting=row.waiting,
        trouble=None if trouble is None else RunTrouble(**trouble.model_dump(exclude={"attempt"})),
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
        actions=[] if _is_cancelled_already(row) else list(ACTIONS[state]),
    )


def _is_cancelled_already(row: RunRow) -> bool:
    """Whether it ends by the strongest request there is."""
    return row.state in {RunState.QUEUED, RunState.STOPPING} and row.record.wanted == "cancelled"


def _reason(row: RunRow) -> str | None:
    last, state = row.facts.state, row.state
    if last is not None and last.state is state and last.attempt == row.attempt:
        return last.reason
    if state is RunState.QUEUED and row.waiting is not None:
        return row.waiting.reason
    if state is RunState.INTERRUPTED and row.standing.why is not None:
        return row.standing.why
    return _DERIVED_REASONS.get(state)


def _phase(row: RunRow) -> RunPhase | None:
    """What the newest attempt is doing; until its trainer answers a request to end, that it was asked."""
    phase = row.facts.phase if row.facts.phase is not None and row.facts.phase.attempt == row.attempt else None
    asked = row.standing.asked
    if asked is not None:
        doing = "" if phase is None else f"; now: {phase.phase}"
        return RunPhase(
            phase="requested", detail=f"{asked.kind} was asked{doing}", since=asked.since, deadline=asked.deadline
        )
    return None if phase is None else RunPhase(**phase.model_dump(exclude={"attempt"}))


def _eta(row: RunRow) -> float | None:
    if row.max_steps is None or not row.facts.steps_per_s:
        return None
    return max(0.0, (row.max_steps - row.facts.step) / row.facts.steps_per_s)

"""The state of a run, told from its files alone: what was asked for, what it last said, whether its keeper lives."""

from dataclasses import dataclass

from xoron_core.contract.run_directory import RunDirectory, RunRecord
from xoron_core.contract.states import LIVE, RunState


@dataclass(frozen=True)
class LastState:
    """The newest `state` event of a run."""

    state: RunState
    attempt: int
    time: str
    reason: str | None = None


_ASKABLE = {RunState.STARTING, RunState.RUNNING, RunState.RECOVERING}
_OUTDONE_BY = {RunState.PAUSED: {"stopped", "cancelled"}, RunState.STOPPED: {"cancelled"}}
_ASKED = {"paused": RunState.PAUSING, "stopped": RunState.STOPPING, "cancelled": RunState.STOPPING}


def derive_state(record: RunRecord, last: LastState | None, *, has_begun: bool, keeper_alive: bool) -> RunState:
    """The state that everybody is shown.

    `has_begun`: the newest attempt's file exists; `keeper_alive`: the process in `keeper.json` runs and keeps that
    attempt. A live state without a keeper reads `interrupted`; a request that the trainer has not seen yet reads as
    the state it leads to.
    """
    if last is None or last.attempt < record.attempt:
        if not has_begun:
            return RunState.QUEUED if record.wanted == "running" else RunState(record.wanted)
        return _asked_or(RunState.STARTING, record) if keeper_alive else RunState.INTERRUPTED
    if last.state in LIVE:
        return _asked_or(last.state, record) if keeper_alive else RunState.INTERRUPTED
    is_outdone = record.wanted in _OUTDONE_BY.get(last.state, ())  # by a request after the trainer's last look
    return RunState(record.wanted) if is_outdone else last.state


def _asked_or(state: RunState, record: RunRecord) -> RunState:
    if state is RunState.PAUSING and record.wanted in {"stopped", "cancelled"}:
        return RunState.STOPPING
    return _ASKED.get(record.wanted, state) if state in _ASKABLE else state


def keeper_is_alive(run: RunDirectory, attempt: int) -> bool:
    """Whether a keeper that was given that attempt, or has gone on from it to a later one, is at work on this very
    directory."""
    keeper = run.own_keeper()
    return keeper is not None and keeper.attempt >= attempt and keeper.keeper.is_alive()

"""What a trainer's end means: the end state, its reason, and the states the table wants told on the way there."""

import re
import signal
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.derive import LastState
from xoron_core.contract.exit_codes import END_STATES, ExitCode
from xoron_core.contract.segments import LIVE_NAME, Segment, parse_record, rotated_segments
from xoron_core.contract.states import LIVE, TRANSITIONS, RunState

_ASKED_STATES = {
    None: RunState.STOPPED,
    CommandKind.STOP: RunState.STOPPED,
    CommandKind.PAUSE: RunState.PAUSED,
    CommandKind.CANCEL: RunState.CANCELLED,
}
_NATURAL_END = {RunState.STOPPING: RunState.STOPPED, RunState.PAUSING: RunState.PAUSED}
_MODULE = re.compile(r"^(?:[a-z_]\w*\.)+(?=[A-Z]\w*(?:: |$))")
"""Where an error's class lives, as Python prints it in front of the message; a person need not know."""
_NEVER_ON_THE_WAY = {RunState.QUEUED, RunState.INTERRUPTED, RunState.FAILED}


@dataclass(frozen=True)
class TrainerExit:
    """How the trainer ended: a status or a signal, and the last line that it wrote."""

    code: int | None
    signal: int | None
    last_line: str

    @classmethod
    def of(cls, returncode: int, last_line: str) -> "TrainerExit":
        """From a return code in subprocess's manner, negative for a signal."""
        return cls(returncode, None, last_line) if returncode >= 0 else cls(None, -returncode, last_line)


@dataclass(frozen=True)
class Pressure:
    """What the keeper did to end the trainer: the command it knew of, the signals it sent, and why."""

    asked: CommandKind | None = None
    sent: frozenset[int] = frozenset()
    reason: str = ""


@dataclass(frozen=True)
class Ending:
    """The end state with its reason, and the states to write, the end state last (empty: all is said)."""

    state: RunState
    reason: str
    path: tuple[RunState, ...]


def decide(end: TrainerExit, last: LastState, pressure: Pressure) -> Ending:
    """The ending that follows from the exit status, the last state written and what the keeper did."""
    if last.state not in LIVE:  # the trainer wrote its own end
        return Ending(last.state, last.reason or "", ())
    wanted, reason = _wanted(end, last, pressure)
    path = shortest_path(last.state, wanted)
    if path is None:  # e.g. all steps were done while stopping
        state = _NATURAL_END[last.state]
        return Ending(state, f"{wanted} while {last.state}", (state,))
    return Ending(wanted, reason, path)


def _wanted(end: TrainerExit, last: LastState, pressure: Pressure) -> tuple[RunState, str]:
    state = _told(end.code)
    if state is not None:
        return state, "all steps done" if state is RunState.COMPLETED else (pressure.reason or last.reason or "")
    if end.signal is not None:
        name = signal.Signals(end.signal).name if end.signal in set(signal.Signals) else f"signal {end.signal}"
        if end.signal in pressure.sent:
            return _ASKED_STATES[pressure.asked], f"{pressure.reason}; the trainer was ended by {name}"
        hint = " (the kernel does so when memory runs out)" if end.signal == signal.SIGKILL else ""
        words = f"; its last line: {end.last_line}" if end.last_line else ""
        return RunState.FAILED, f"the trainer was killed by {name}{hint}{words}"
    if end.code == ExitCode.ROLLBACK:
        return RunState.FAILED, f"too many steps were not finite; {end.last_line}".rstrip("; ")
    reason = _MODULE.sub("", end.last_line)
    return RunState.FAILED, reason or f"the trainer exited with status {end.code} and said nothing"


def _told(code: int | None) -> RunState | None:
    return END_STATES.get(ExitCode(code)) if code in set(ExitCode) else None


def shortest_path(old: RunState, new: RunState) -> tuple[RunState, ...] | None:
    """The states after `old` up to `new`, each step one of the table; None where there is no way."""
    paths: deque[tuple[RunState, ...]] = deque([(old,)])
    seen = {old}
    while paths:
        path = paths.popleft()
        for state in sorted(TRANSITIONS[path[-1]] - seen):
            if state is new:
                return (*path[1:], state)
            seen.add(state)
            if state not in _NEVER_ON_THE_WAY:
                paths.append((*path, state))
    return None


def last_state(directory: Path) -> LastState | None:
    """The newest `state` event of a run; only lines that look like one are parsed."""
    live = directory / LIVE_NAME
    segments = [*rotated_segments(directory), *([Segment(0, live)] if live.exists() else [])]
    for segment in reversed(segments):
        newest: dict[str, Any] | None = None
        with segment.open() as file:
            for line in file:
                if b'"kind":"state"' in line and (record := parse_record(line)) and record["kind"] == "state":
                    newest = record
        if newest is not None:
            return LastState(RunState(newest["state"]), newest["attempt"], newest["time"], newest.get("reason"))
    return None

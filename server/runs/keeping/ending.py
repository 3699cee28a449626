"""What a trainer's end means: the end state, its reason, and the states the table wants told on the way there."""

import re
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.derive import LastState
from xoron_core.contract.exit_codes import END_STATES, FAILURES, ExitCode, Failure
from xoron_core.contract.run_directory import RankEnd
from xoron_core.contract.segments import LIVE_NAME, Segment, parse_record, rotated_segments
from xoron_core.contract.states import LIVE, TRANSITIONS, RunState

ORDERLY = frozenset(int(code) for code in END_STATES)
ASKED_STATES = {
    None: RunState.STOPPED,
    CommandKind.STOP: RunState.STOPPED,
    CommandKind.PAUSE: RunState.PAUSED,
    CommandKind.CANCEL: RunState.CANCELLED,
}
_NATURAL_END = {
    RunState.STOPPING: RunState.STOPPED,
    RunState.PAUSING: RunState.PAUSED,
}
_MODULE = re.compile(r"^(?:[a-z_]\w*\.)+(?=[A-Z]\w*(?:: |$))")
"""Where an error's class lives, as Python prints it in front of the message; a person need not know."""
_NEVER_ON_THE_WAY = {RunState.QUEUED, RunState.PAUSED, RunState.INTERRUPTED, RunState.FAILED, RunState.RECOVERING}


@dataclass(frozen=True)
class TrainerExit:
    """How the process ended: a status or a signal, the last line that was written, the ranks' last words."""

    code: int | None
    signal: int | None
    last_line: str
    ends: Sequence[RankEnd] = ()
    num_processes: int = 1

    @classmethod
    def of(cls, returncode: int, last_line: str, ends: Sequence[RankEnd] = (), num_processes: int = 1) -> "TrainerExit":
        """From a return code in subprocess's manner, negative for a signal."""
        code, number = (returncode, None) if returncode >= 0 else (None, -returncode)
        return cls(code, number, last_line, ends, num_processes)


@dataclass(frozen=True)
class Pressure:
    """What the keeper did to end the trainer: the command it knew of, the signals it sent, and why."""

    asked: CommandKind | None = None
    sent: frozenset[int] = frozenset()
    reason: str = ""
    hang: str = ""
    """Why it was taken for hung, if it was."""

    @property
    def was_asked(self) -> bool:
        """Whether the run was to end, by a command or by SIGTERM."""
        return self.asked is not None or signal.SIGTERM in self.sent


@dataclass(frozen=True)
class Verdict:
    """What an attempt came to; `failure` says why where it is `failed`."""

    state: RunState
    reason: str
    failure: Failure | None = None


@dataclass(frozen=True)
class Ending:
    """The end state with its reason, and the states to write, the end state last (empty: all is said)."""

    state: RunState
    reason: str
    path: tuple[RunState, ...]


def judge(end: TrainerExit, pressure: Pressure) -> Verdict:
    """What follows from the exit status, the last words and what the keeper did."""
    if pressure.hang:
        return _failure(Failure.HANG, pressure.hang)
    if end.num_processes > 1:
        return _judge_ranks(end, pressure)
    if end.code is not None and end.code in ORDERLY:
        return _orderly(end.code, pressure)
    if end.signal is not None:
        if end.signal in pressure.sent:
            return _ended_by(end.signal, pressure)
        return _failure(Failure.CRASH, _killed(end.signal, end.last_line))
    said = next((words.reason for words in end.ends if words.reason), None) or _MODULE.sub("", end.last_line)
    return _failed_with(end.code, said or f"the trainer exited with status {end.code} and said nothing")


def _judge_ranks(end: TrainerExit, pressure: Pressure) -> Verdict:
    """A launcher stands between: its status says nothing, the ranks' last words do."""
    failed = [words for words in end.ends if words.code not in ORDERLY]
    causes = [words for words in failed if words.code != ExitCode.PEER_LOST]
    if causes:
        first = causes[0]
        return _failed_with(first.code, first.reason or f"rank {first.rank} ended with status {first.code}")
    silent = sorted(set(range(end.num_processes)) - {words.rank for words in end.ends})
    if silent:
        if end.code == 0 and pressure.asked is not None:  # all ended in order; a full disk has no room for their words
            return Verdict(ASKED_STATES[pressure.asked], pressure.reason)
        if pressure.sent:
            return _ended_by(signal.SIGKILL if signal.SIGKILL in pressure.sent else signal.SIGTERM, pressure)
        several = f"ranks {', '.join(map(str, silent))}" if len(silent) > 1 else f"rank {silent[0]}"
        return _failure(Failure.CRASH, f"{several} ended without a word")
    if failed:
        return _failure(Failure.CRASH, failed[0].reason or f"rank {failed[0].rank} lost the others")
    return _orderly(min(end.ends, key=lambda words: words.rank).code, pressure)


def _failed_with(code: int | None, reason: str) -> Verdict:
    failure = FAILURES.get(ExitCode(code), Failure.CRASH) if code in set(ExitCode) else Failure.CRASH
    return _failure(failure, reason)


def _failure(failure: Failure, reason: str) -> Verdict:
    return Verdict(RunState.FAILED, reason, failure)


def _orderly(code: int, pressure: Pressure) -> Verdict:
    state = END_STATES[ExitCode(code)]
    if state is RunState.STOPPED and pressure.asked is CommandKind.CANCEL:  # it came after the trainer's last look
        state = RunState.CANCELLED
    return Verdict(state, "all steps done" if state is RunState.COMPLETED else pressure.reason)


def _ended_by(number: int, pressure: Pressure) -> Verdict:
    reason = f"{pressure.reason}; the trainer was ended by {signal.Signals(number).name}"
    return Verdict(ASKED_STATES[pressure.asked], reason)


def _killed(number: int, last_line: str) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " (the kernel does so when memory runs out)" if number == signal.SIGKILL else ""
    words = f"; its last line: {last_line}" if last_line else ""
    return f"the trainer was killed by {name}{hint}{words}"


def decide(verdict: Verdict, last: LastState) -> Ending:
    """The ending that follows from a verdict after the last state that was written."""
    if last.state not in LIVE:  # the trainer wrote its own end
        return Ending(last.state, last.reason or "", ())
    reason = verdict.reason or last.reason or ""
    path = shortest_path(last.state, verdict.state)
    if path is None:  # e.g. all steps were done while stopping
        state = _NATURAL_END[last.state]
        return Ending(state, f"{verdict.state} while {last.state}", (state,))
    return Ending(verdict.state, reason, path)


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

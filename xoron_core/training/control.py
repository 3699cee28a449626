"""What the outside asks of the trainer: command files and signals, looked at between steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from types import FrameType
from typing import Literal, Protocol

from xoron_core.contract import clock
from xoron_core.contract.beat import BeatWriter
from xoron_core.contract.commands import ENDING, STRENGTH, Command, CommandBox, CommandKind
from xoron_core.contract.errors import CommandError
from xoron_core.contract.events import AlertEvent, CommandEvent, Event, PhaseEvent, StateEvent
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.states import RunState
from xoron_core.distributed.ranks import Ranks

EXIT_CODES = {
    CommandKind.STOP: ExitCode.STOPPED,
    CommandKind.PAUSE: ExitCode.PAUSED,
    CommandKind.CANCEL: ExitCode.CANCELLED,
}


class EventSink(Protocol):
    """Where a trainer tells what happens."""

    @property
    def is_stalled(self) -> bool:
        """Whether records wait because the disk refuses them."""

    def append(self, event: Event) -> int:
        """Write one record."""

    def flush(self) -> bool:
        """Try to write what waits."""


class NoEvents:
    """What the ranks say that do not write the run's files: nothing."""

    is_stalled = False

    def append(self, event: Event) -> int:
        """Rank 0 tells it."""
        return 0

    def flush(self) -> bool:
        """Nothing waits."""
        return True


@dataclass(frozen=True)
class EndRequest:
    """A request to end, and why; `deadline` is when whoever asked will no longer wait."""

    kind: CommandKind
    save: bool
    reason: str
    command_id: int | None = None
    deadline: str | None = None


class Signals:
    """Those that arrived; each may come at any moment, so nothing more than noting it happens then."""

    def __init__(self) -> None:
        self.count = 0
        self._request: EndRequest | None = None

    def note(self, request: EndRequest) -> None:
        """Remember what a signal asks for."""
        self.count += 1
        self._request = request

    def take(self) -> EndRequest | None:
        """What the newest one asks for, once."""
        request, self._request = self._request, None
        return request


class Control:
    """Collects requests; signals and command files count from the next `poll` on.

    `step`, kept by the trainer: optimizer steps done.
    """

    def __init__(self, signals: Signals | None = None) -> None:
        self.signals = signals or Signals()
        self.end: EndRequest | None = None
        self.checkpoint_requests: list[int] = []
        self.sample_requests: list[int] = []
        self.step = 0

    def poll(self) -> None:
        """Look for new requests. A signal makes one only where there is none: the keeper sends SIGTERM when a request
        takes too long, whatever its kind."""
        request = self.signals.take()
        if request is not None and self.end is None:
            self.request_end(request)

    def request_end(self, request: EndRequest) -> None:
        """Ask to end; the first request stands, but a stop goes before a pause and a cancel before both, and of two
        stops the one that does not wait for a checkpoint. None of them moves the deadline of the first."""
        if self.end is None:
            self.end = request
        elif _strength(request) > _strength(self.end):
            self.end = replace(request, deadline=_earlier(self.end.deadline, request.deadline))

    def agree(self, ranks: Ranks) -> EndRequest | None:
        """What all ranks end by, when one of them is asked to; all call this at the same points. What the first of them
        was asked counts: rank 0 hears commands, and the others know of signals only.

        Raises: PeerLostError.
        """
        if ranks.largest(int(self.end is not None)):
            self.end = next(request for request in ranks.gather(self.end) if request is not None)
            self._tell_end()
        return self.end

    def _tell_end(self) -> None:
        """Say that the end is coming, once."""


def answer_requests(events: EventSink, requests: list[int], kind: CommandKind, refusal: str | None) -> None:
    """Tell everybody who asked that it is done or, with a reason, that it is not; nobody waits after that."""
    status: Literal["done", "ignored"] = "done" if refusal is None else "ignored"
    while requests:
        events.append(CommandEvent(id=requests.pop(0), command=kind, status=status, detail=refusal))


class RunControl(Control):
    """The control of a run: its command box, answered by events, and its sign of life.

    `first`: the attempt that a person asked for and that this one followed by itself, or this one. `has_launcher`:
    signals may come from a launcher that ends all ranks because one has died, so that a signal is a request, and is
    told, only when all of them have agreed.
    """

    def __init__(
        self,
        box: CommandBox,
        attempt: int,
        first: int,
        events: EventSink,
        beat: BeatWriter,
        stop_grace_s: float,
        signals: Signals | None = None,
        *,
        has_launcher: bool = False,
    ) -> None:
        super().__init__(signals)
        self.box = box
        self.attempt = attempt
        self.first = first
        self.events = events
        self.beat = beat
        self.stop_grace_s = stop_grace_s
        self.has_launcher = has_launcher
        self._last_id = 0
        self._told: EndRequest | None = None

    def poll(self) -> None:
        """Give a sign of life, and take over signals and new command files, each of these answered by an event; those
        of earlier attempts were answered then."""
        self.beat.beat(self.step)
        try:
            for command in self.box.after(self._last_id):
                self._last_id = command.id
                if command.is_for(self.attempt, self.first):
                    self._take(command)
                elif command.attempt > self.attempt:
                    self._answer(command, "ignored", f"meant for attempt {command.attempt}, this is {self.attempt}")
        except CommandError as error:
            self._last_id = error.id
            self.events.append(AlertEvent(level="warning", message=str(error)))
        super().poll()  # after the commands, for it may be one of them that a signal comes to enforce

    def request_end(self, request: EndRequest) -> None:
        """Ask to end, and tell it where it is certain."""
        super().request_end(request)
        if request.command_id is not None or not self.has_launcher:
            self._tell_end()

    def _take(self, command: Command) -> None:
        self._answer(command, "accepted", None)
        if command.kind in ENDING:
            self.request_end(self._ending(command))
        elif command.kind is CommandKind.CHECKPOINT:
            self.checkpoint_requests.append(command.id)
        else:
            self.sample_requests.append(command.id)

    def _ending(self, command: Command) -> EndRequest:
        deadline = clock.parse_time(command.time) + timedelta(seconds=self.stop_grace_s)
        reason = f"{command.kind} requested"
        return EndRequest(command.kind, command.save, reason, command.id, clock.format_time(deadline))

    def _answer(self, command: Command, status: str, detail: str | None) -> None:
        self.events.append(
            CommandEvent.model_validate({"id": command.id, "command": command.kind, "status": status, "detail": detail})
        )

    def _tell_end(self) -> None:
        """The new state, where it is another one, and the first phase of the end."""
        before, self._told = self._told, self.end
        if self.end is None or self.end == before:
            return
        if before is None or _state_of(before) is not _state_of(self.end):
            self.events.append(StateEvent(state=_state_of(self.end), reason=self.end.reason))
        self.events.append(PhaseEvent(phase="requested", detail=self.end.reason, deadline=self.end.deadline))


def _strength(request: EndRequest) -> tuple[int, bool]:
    return STRENGTH[request.kind], not request.save


def _earlier(one: str | None, other: str | None) -> str | None:
    """The contract's moments are in order as texts."""
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _state_of(request: EndRequest) -> RunState:
    return RunState.PAUSING if request.kind is CommandKind.PAUSE else RunState.STOPPING


@contextmanager
def ending_signals() -> Iterator[Signals]:
    """Within it SIGTERM and SIGINT ask for an orderly end instead of ending the process."""
    signals = Signals()

    def handle(number: int, frame: FrameType | None) -> None:
        signals.note(EndRequest(CommandKind.STOP, save=True, reason=f"{signal.Signals(number).name} received"))

    if threading.current_thread() is not threading.main_thread():
        yield signals  # they belong to the main thread; an embedding program keeps its own handlers
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

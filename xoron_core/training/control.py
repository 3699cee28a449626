"""What the outside asks of the trainer: command files and signals, looked at between steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal, Protocol

from xoron_core.contract.commands import ENDING, Command, CommandBox, CommandKind
from xoron_core.contract.errors import CommandError
from xoron_core.contract.events import AlertEvent, CommandEvent, Event
from xoron_core.contract.exit_codes import ExitCode

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


@dataclass(frozen=True)
class EndRequest:
    """A request to end, and why."""

    kind: CommandKind
    save: bool
    reason: str
    command_id: int | None = None


class Control:
    """Collects requests; signals may arrive at any moment, command files are read by `poll`."""

    def __init__(self) -> None:
        self.end: EndRequest | None = None
        self.checkpoint_requests: list[int] = []
        self.sample_requests: list[int] = []

    def poll(self) -> None:
        """Look for new requests."""

    def request_end(self, request: EndRequest) -> None:
        """Ask to end; the first request stands, but a later cancel goes before it."""
        if self.end is None or request.kind is CommandKind.CANCEL:
            self.end = request


def answer_requests(events: EventSink, requests: list[int], kind: CommandKind, refusal: str | None) -> None:
    """Tell everybody who asked that it is done or, with a reason, that it is not; nobody waits after that."""
    status: Literal["done", "ignored"] = "done" if refusal is None else "ignored"
    while requests:
        events.append(CommandEvent(id=requests.pop(0), command=kind, status=status, detail=refusal))


class RunControl(Control):
    """The control of a run: its command box, answered by events."""

    def __init__(self, box: CommandBox, attempt: int, events: EventSink) -> None:
        super().__init__()
        self.box = box
        self.attempt = attempt
        self.events = events
        self._last_id = 0

    def poll(self) -> None:
        """Take over new command files, each answered by an event; those of earlier attempts were answered then."""
        try:
            for command in self.box.after(self._last_id):
                self._last_id = command.id
                if command.attempt > self.attempt:
                    self._answer(command, "ignored", f"meant for attempt {command.attempt}, this is {self.attempt}")
                elif command.attempt == self.attempt:
                    self._take(command)
        except CommandError as error:
            self._last_id = error.id
            self.events.append(AlertEvent(level="warning", message=str(error)))

    def _take(self, command: Command) -> None:
        self._answer(command, "accepted", None)
        if command.kind in ENDING:
            self.request_end(EndRequest(command.kind, command.save, f"{command.kind} requested", command.id))
        elif command.kind is CommandKind.CHECKPOINT:
            self.checkpoint_requests.append(command.id)
        else:
            self.sample_requests.append(command.id)

    def _answer(self, command: Command, status: str, detail: str | None) -> None:
        self.events.append(
            CommandEvent.model_validate({"id": command.id, "command": command.kind, "status": status, "detail": detail})
        )


@contextmanager
def ending_signals(on_signal: Callable[[EndRequest], None]) -> Iterator[None]:
    """Within it SIGTERM and SIGINT ask for an orderly end instead of ending the process."""

    def handle(number: int, frame: FrameType | None) -> None:
        on_signal(EndRequest(CommandKind.STOP, save=True, reason=f"{signal.Signals(number).name} received"))

    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread; an embedding program keeps its own handlers
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

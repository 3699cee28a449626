"""Waiting for a trainer: its output, the signals it is owed, the deadlines it must meet, the processes it leaves."""

import os
import selectors
import signal
import socket
import time
from subprocess import Popen

from server.runs.keeping import processes
from server.runs.keeping.ending import Pressure, TrainerExit
from server.runs.keeping.escalation import Escalation
from server.runs.keeping.output import LogFile
from xoron_core.contract.events import TroubleEvent

_TICK_S = 0.05
_LEFTOVER_S = 1.0
_KILL_S = 10.0
_BLOCK = 1 << 16


class Wakeup:
    """Signals as a readable socket, so that one `select` waits for everything."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        for end in (self.reader, self._writer):
            os.set_blocking(end.fileno(), False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def arrived(self) -> set[int]:
        """The signals since the last call."""
        try:
            return set(self.reader.recv(4096))
        except BlockingIOError:
            return set()


class Supervision:
    """One trainer from its start until no process of it is left."""

    def __init__(
        self, trainer: Popen[bytes], output_fd: int, log: LogFile, wakeup: Wakeup, escalation: Escalation
    ) -> None:
        self.troubles: list[TroubleEvent] = []
        self._trainer = trainer
        self._output_fd = output_fd
        self._log = log
        self._wakeup = wakeup
        self._escalation = escalation
        self._sent: set[int] = set()
        self._reason = ""

    def wait(self) -> TrainerExit:
        """Return when the trainer has ended and nothing that it started is left."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup.reader, selectors.EVENT_READ)
            selector.register(self._output_fd, selectors.EVENT_READ)
            while self._trainer.poll() is None:
                for key, _ in selector.select(_TICK_S):
                    if key.fd == self._output_fd and not self._pump():
                        selector.unregister(self._output_fd)
                self._pass_signals_on()
                self._escalate()
                processes.reap_orphans(spare=self._trainer.pid)
        self._kill_leftovers()
        self._pump()
        self._log.finish()
        return TrainerExit.of(self._trainer.returncode, self._log.last_line)

    def pressure(self) -> Pressure:
        """What was done to end the trainer."""
        return Pressure(self._escalation.asked, frozenset(self._sent), self._reason)

    def _pass_signals_on(self) -> None:
        if {signal.SIGTERM, signal.SIGINT} & self._wakeup.arrived():
            self._signal({self._trainer.pid}, signal.SIGTERM, "the keeper was sent SIGTERM and passed it on")

    def _escalate(self) -> None:
        step = self._escalation.poll(time.monotonic())
        if step is None:
            return
        self.troubles.append(step.event)
        is_last = step.number is signal.SIGKILL
        targets = processes.descendants(os.getpid()) if is_last else {self._trainer.pid}
        self._signal(targets, step.number, step.event.reason)

    def _signal(self, targets: set[int], number: signal.Signals, reason: str) -> None:
        self._sent.add(number)
        self._reason = reason
        self._log.say(reason)
        processes.send(targets, number)

    def _kill_leftovers(self) -> None:
        left = processes.wait_until_gone(self._descendants, _LEFTOVER_S)
        if not left:
            return
        self._log.say(f"processes outlived the trainer and are killed: {sorted(left)}")
        deadline = time.monotonic() + _KILL_S
        while left and time.monotonic() < deadline:
            processes.send(left, signal.SIGKILL)
            left = processes.wait_until_gone(self._descendants, 0.2)
        if left:
            reason = f"processes {sorted(left)} outlived the trainer and cannot be killed; look at them"
            self.troubles.append(TroubleEvent(action="none", reason=reason))

    def _descendants(self) -> set[int]:
        self._pump()  # a process that waits for room in the pipe would never go
        return processes.descendants(os.getpid())

    def _pump(self) -> bool:
        """Pass on what there is to read; False once nobody can write any more."""
        while True:
            try:
                block = os.read(self._output_fd, _BLOCK)
            except BlockingIOError:
                return True
            if not block:
                return False
            self._log.feed(block)

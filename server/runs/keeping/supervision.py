"""Waiting for a trainer: its output, the signals it is owed, the deadlines it must meet, the processes it leaves."""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen

from server.runs.keeping import processes
from server.runs.keeping.ending import Pressure
from server.runs.keeping.escalation import Escalation
from server.runs.keeping.hang import HangWatch
from server.runs.keeping.output import LogFile
from server.runs.keeping.peers import PEER_GRACE_S, PeerWatch
from xoron_core.contract.events import TroubleEvent

DUMP_S = 2.0
"""Time for the ranks to write their stacks."""
_TICK_S = 0.05
_LEFTOVER_S = 1.0
_KILL_S = 10.0
_BLOCK = 1 << 16
_MAX_BLOCKS = 16


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

    def told_to_end(self) -> bool:
        """Whether SIGTERM or SIGINT arrived since the last call."""
        return bool({signal.SIGTERM, signal.SIGINT} & self.arrived())

    def wait(self, timeout_s: float) -> None:
        """Until a signal arrives, for `timeout_s` at most."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.reader, selectors.EVENT_READ)
            selector.select(timeout_s)


@dataclass(frozen=True)
class Started:
    """A trainer's process, or that of the launcher of several ranks, and where its output is read."""

    process: Popen[bytes]
    output_fd: int
    num_processes: int

    def ranks(self) -> set[int]:
        """The processes that train: torchrun would give them half a minute after a SIGTERM of its own, so that they
        are signalled in its place. Before there are any, the process itself."""
        return self.ranks_started() or {self.process.pid}

    def ranks_started(self) -> set[int]:
        """Those of several ranks that live."""
        return processes.children(self.process.pid) if self.num_processes > 1 else set()


@dataclass(frozen=True)
class Watches:
    """Who says when enough was waited."""

    escalation: Escalation
    hang: HangWatch
    peers: PeerWatch


class Supervision:
    """One trainer from its start until no process of it is left; `spared` are children that are none of its."""

    def __init__(
        self, started: Started, log: LogFile, wakeup: Wakeup, watches: Watches, spared: frozenset[int] = frozenset()
    ) -> None:
        self.troubles: list[TroubleEvent] = []
        self._started = started
        self._process = started.process
        self._log = log
        self._wakeup = wakeup
        self._watches = watches
        self._spared = spared
        self._sent: set[int] = set()
        self._reason = ""
        self._hang = ""
        self._kill_due_s: float | None = None
        self._is_killed = False
        self._gone_by_s: float | None = None

    def wait(self) -> int:
        """Return when the trainer has ended and nothing that it started is left; its status, negative for a signal."""
        steps: tuple[Callable[[float], None], ...] = (
            self._pass_signals_on,
            self._escalate,
            self._watch_beat,
            self._watch_peers,
            self._watch_killed,
        )
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup.reader, selectors.EVENT_READ)
            selector.register(self._started.output_fd, selectors.EVENT_READ)
            while self._process.poll() is None:
                for key, _ in selector.select(_TICK_S):
                    if key.fd == self._started.output_fd and not self._pump():
                        selector.unregister(self._started.output_fd)
                for step in steps:
                    step(time.monotonic())
                processes.reap_orphans(spare=self._process.pid)
        self._kill_leftovers()
        self._pump()
        self._log.finish()
        return int(self._process.returncode)

    def pressure(self) -> Pressure:
        """What was done to end the trainer."""
        return Pressure(self._watches.escalation.asked, frozenset(self._sent), self._reason, self._hang)

    def _pass_signals_on(self, now_s: float) -> None:
        if self._wakeup.told_to_end():
            self._watches.escalation.was_terminated(now_s)
            self._signal(self._started.ranks(), signal.SIGTERM, "the keeper was sent SIGTERM and passed it on")

    def _escalate(self, now_s: float) -> None:
        step = self._watches.escalation.poll(now_s)
        if step is None:
            return
        self.troubles.append(step.event)
        if step.number is signal.SIGKILL:
            self._kill_all(step.event.reason)
        else:
            self._dump_stacks()  # whoever asks later why it did not end finds them in the log
            self._signal(self._started.ranks(), step.number, step.event.reason)

    def _watch_beat(self, now_s: float) -> None:
        """A trainer that hangs says where and is killed; one that was asked to end has deadlines of its own."""
        if self._kill_due_s is not None:
            if now_s >= self._kill_due_s and not self._is_killed:
                self._kill_all(f"{self._hang}; sent SIGKILL to all processes of the run")
            return
        is_ending = self._watches.escalation.asked is not None or signal.SIGTERM in self._sent
        if is_ending or self._is_killed or not self._watches.hang.is_hung(now_s):
            return
        held = processes.stopped(self._all())
        self._hang = self._watches.hang.reason(held)
        self._log.say(f"{self._hang}; the stacks of all its processes follow")
        self._dump_stacks()
        self._kill_due_s = now_s + DUMP_S
        reason = f"{self._hang}; stacks are in train.log, then SIGKILL to all processes of the run"
        self.troubles.append(TroubleEvent(action="kill", reason=reason))

    def _watch_peers(self, now_s: float) -> None:
        if self._is_killed or not self._watches.peers.is_due(now_s):
            return
        if self._watches.peers.must_end(now_s, len(self._started.ranks_started())):
            reason = f"a rank has failed, and others were still there {PEER_GRACE_S:g} s later; sent SIGKILL to them"
            self._log.say(reason)
            self._note_kill()
            processes.send(self._all(), signal.SIGKILL)

    def _watch_killed(self, now_s: float) -> None:
        """SIGKILL does not end a process that the kernel holds, because it waits for a dead disk, say."""
        if self._gone_by_s is None or now_s < self._gone_by_s:
            return
        self._gone_by_s = None
        left = sorted(self._all())
        reason = f"processes {left} are still there {_KILL_S:g} s after SIGKILL: the kernel holds them; look at them"
        self._log.say(reason)
        self.troubles.append(TroubleEvent(action="none", reason=reason))

    def _dump_stacks(self) -> None:
        processes.send(processes.catching(self._all(), signal.SIGUSR1), signal.SIGUSR1)

    def _note_kill(self) -> None:
        self._is_killed = True
        self._gone_by_s = time.monotonic() + _KILL_S

    def _kill_all(self, reason: str) -> None:
        self._note_kill()
        self._signal(self._all(), signal.SIGKILL, reason)

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

    def _all(self) -> set[int]:
        return processes.descendants(os.getpid()) - self._spared

    def _descendants(self) -> set[int]:
        self._pump()  # a process that waits for room in the pipe would never go
        return self._all()

    def _pump(self) -> bool:
        """Pass on what there is to read, but no more than so many blocks: whoever prints faster than the log is written
        does not hold up all else. False once nobody can write any more."""
        for _ in range(_MAX_BLOCKS):
            try:
                block = os.read(self._started.output_fd, _BLOCK)
            except BlockingIOError:
                return True
            if not block:
                return False
            self._log.feed(block)
        return True

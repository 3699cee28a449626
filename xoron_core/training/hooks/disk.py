"""Holding still while the disk is nearly full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xoron_core.contract.events import AlertEvent
from xoron_core.training.checkpoint import remove_leftovers
from xoron_core.training.control import EventSink
from xoron_core.training.disk import Disk
from xoron_core.training.hooks.base import Hook, tell_phase

if TYPE_CHECKING:
    from xoron_core.training.trainer import XoronTrainer


class DiskHook(Hook):
    """Waits for room after a step that left too little of it, or whose events the disk refuses; they wait in memory.

    A request to end is still heard.
    """

    def __init__(self, disk: Disk, checkpoints: Path, events: EventSink) -> None:
        self.disk = disk
        self.checkpoints = checkpoints
        self.events = events

    def before_training(self, trainer: XoronTrainer) -> None:
        """Give back the room that a killed save has left taken; then the first step is no different."""
        try:
            remove_leftovers(self.checkpoints)
        except OSError as error:  # costs room, not the run
            message = f"what is left of half a checkpoint cannot be removed: {error}"
            self.events.append(AlertEvent(level="warning", message=message))
        self.after_step(trainer)

    def after_step(self, trainer: XoronTrainer) -> None:
        """Wait where there is reason to."""
        control = trainer.control
        if self.disk.shortage() is not None:
            self.disk.wait(self.disk.shortage, control, lambda: control.end is not None)
            tell_phase(self.events, trainer)

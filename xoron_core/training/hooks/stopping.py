"""An end after a given step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xoron_core.contract.commands import CommandKind
from xoron_core.training.control import Control, EndRequest
from xoron_core.training.hooks.base import Hook

if TYPE_CHECKING:
    from xoron_core.training.trainer import XoronTrainer


class StopHook(Hook):
    """Asks to end, without a checkpoint, after `last_step`, unless training is complete then."""

    def __init__(self, control: Control, last_step: int) -> None:
        self.control = control
        self.last_step = last_step

    def after_step(self, trainer: XoronTrainer) -> None:
        """Ask where it is time."""
        state, config = trainer.state, trainer.config
        is_complete = state.step == config.max_steps or state.epoch >= config.num_epochs
        if state.step >= self.last_step and not is_complete:
            self.control.request_end(EndRequest(CommandKind.STOP, save=False, reason=f"step {self.last_step} is done"))

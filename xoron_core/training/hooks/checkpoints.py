"""Checkpoints every `save_steps` steps, on request, before ending and at the end."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError
from xoron_core.contract.events import AlertEvent, CheckpointEvent, LogEvent, PhaseEvent, StateEvent
from xoron_core.contract.files import model_to_yaml
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.states import RunState
from xoron_core.training.checkpoint import retire_checkpoints, set_aside_later, write_checkpoint
from xoron_core.training.control import EventSink, answer_requests
from xoron_core.training.hooks.base import Hook
from xoron_core.training.metrics import now

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer

Reason = Literal["periodic", "requested", "ending", "final"]


class CheckpointHook(Hook):
    """Writes checkpoints and retires old ones, only ever after a newer one is complete.

    A periodic checkpoint that the disk refuses is an alert; training goes on. One that an ending waits for raises.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, events: EventSink) -> None:
        self.config = config
        self.run = run
        self.events = events
        self._last_step = -1

    def before_training(self, trainer: XoronTrainer) -> None:
        """A step that was restored needs no second checkpoint; those of later steps are of a course that was left."""
        step = trainer.global_step
        if trainer.receipt is not None:
            self._last_step = step
        if later := ", ".join(path.name for path in set_aside_later(self.run.checkpoint_dir(step))):
            message = f"training goes on from step {step}; the next checkpoint takes the place of {later}"
            self.events.append(LogEvent(level="info", message=message))

    def after_step(self, trainer: XoronTrainer) -> None:
        """Write one when it is due or asked for."""
        every = trainer.config.save_steps
        if trainer.control.checkpoint_requests:
            self._try(trainer, "requested")
        elif every is not None and trainer.global_step % every == 0:
            self._try(trainer, "periodic")
        self._answer(trainer, "the disk refused it")

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Say how training ends and write the last checkpoint."""
        if end is not None:
            pausing = end.kind is CommandKind.PAUSE
            self.events.append(StateEvent(state=RunState.PAUSING if pausing else RunState.STOPPING, reason=end.reason))
        if (end is None or end.save) and trainer.global_step > 0:
            self.write(trainer, "final" if end is None else "ending")
        self._answer(trainer, "the run ended without a checkpoint")
        self.events.append(PhaseEvent(phase="closing"))

    def _answer(self, trainer: XoronTrainer, refusal: str) -> None:
        """Tell those who asked for a checkpoint whether this step has one."""
        is_done = self._last_step == trainer.global_step
        requests = trainer.control.checkpoint_requests
        answer_requests(self.events, requests, CommandKind.CHECKPOINT, None if is_done else refusal)

    def _try(self, trainer: XoronTrainer, reason: Reason) -> None:
        try:
            self.write(trainer, reason)
        except CheckpointError as error:
            self.events.append(
                AlertEvent(level="error", message=f"no checkpoint at step {trainer.global_step}: {error}")
            )
        self.events.append(PhaseEvent(phase="training"))

    def write(self, trainer: XoronTrainer, reason: Reason) -> None:
        """One checkpoint, unless this step has one.

        Raises: CheckpointError when the disk refuses or is nearly full.
        """
        step = trainer.global_step
        if step == self._last_step:
            return
        self.events.append(PhaseEvent(phase="saving"))
        self._check_room()
        begin = now()
        target = self.run.checkpoint_dir(step)
        size = write_checkpoint(target, trainer.snapshot().take(model_to_yaml(self.config)))
        self._last_step = step
        relative = str(target.relative_to(self.run.path))
        self.events.append(CheckpointEvent(step=step, path=relative, reason=reason, bytes=size, seconds=now() - begin))
        try:
            retire_checkpoints(self.run.checkpoints, self.config.checkpoint.keep_last)
        except OSError as error:  # costs room, not the run
            self.events.append(AlertEvent(level="warning", message=f"old checkpoints cannot be removed: {error}"))

    def _check_room(self) -> None:
        free, needed = shutil.disk_usage(self.run.path).free / 2**30, self.config.trouble.min_free_disk_gib
        if free < needed:
            raise CheckpointError(
                f"{free:.2f} GiB are free, trouble.min_free_disk_gib is {needed}; make room or lower it"
            )

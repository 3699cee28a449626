"""Checkpoints every `save_steps` steps, after the best evaluation, on request, before ending and at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError
from xoron_core.contract.events import AlertEvent, CheckpointEvent, LogEvent, PhaseEvent
from xoron_core.contract.files import model_to_yaml
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import retire_checkpoints, set_aside_later, verify_checkpoint, write_checkpoint
from xoron_core.training.control import EventSink, answer_requests
from xoron_core.training.disk import Disk
from xoron_core.training.hooks.base import Hook, tell_phase
from xoron_core.training.metrics import now

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer

Reason = Literal["periodic", "requested", "best", "ending", "final"]


class CheckpointHook(Hook):
    """Writes checkpoints and retires old ones, only ever after a newer one is complete.

    Where there is no room for one, training waits for it, until somebody asks to end. One that an ending waits for is
    tried again until there is room; a signal breaks that off, and it raises.

    `on_written` is called with every checkpoint that is complete, and why it was written. A step that has one is not
    written again, so the last one of a run need not come with the reason `final`.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, disk: Disk, events: EventSink) -> None:
        self.config = config
        self.run = run
        self.disk = disk
        self.events = events
        self.on_written: list[Callable[[Path, Reason], None]] = []
        self._last_step = -1

    def before_training(self, trainer: XoronTrainer) -> None:
        """A step that was restored needs no second checkpoint; those of later steps are of a course that was left."""
        step = trainer.global_step
        if trainer.receipt is not None and self.run.checkpoint_dir(step).is_dir():
            self._last_step = step
        if later := ", ".join(path.name for path in set_aside_later(self.run.checkpoint_dir(step))):
            message = f"training goes on from step {step}; new checkpoints take the place of {later}"
            self.events.append(LogEvent(level="info", message=message))

    def after_step(self, trainer: XoronTrainer) -> None:
        """Write one when it is due or asked for; when somebody asked to end, the last one serves as well."""
        every, control = trainer.config.save_steps, trainer.control
        if control.end is not None:
            return
        is_due = every is not None and trainer.global_step % every == 0
        is_best = self.config.checkpoint.keep_best and trainer.state.best_step == trainer.global_step
        if control.checkpoint_requests or is_best or is_due:
            reason: Reason = "requested" if control.checkpoint_requests else "best" if is_best else "periodic"
            problem = self.write(trainer, reason, lambda: control.end is not None)
            tell_phase(self.events, trainer)
            if problem is None:
                answer_requests(self.events, control.checkpoint_requests, CommandKind.CHECKPOINT, None)

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Write the last checkpoint and read it back."""
        if (end is None or end.save) and trainer.global_step > 0:
            self._save_at_end(trainer, "final" if end is None else "ending")
        trainer.control.poll()
        is_done = self._last_step == trainer.global_step
        refusal = None if is_done else "the run ended without a checkpoint"
        answer_requests(self.events, trainer.control.checkpoint_requests, CommandKind.CHECKPOINT, refusal)
        answer_requests(self.events, trainer.control.sample_requests, CommandKind.SAMPLE, "the run ended first")
        self.events.append(PhaseEvent(phase="closing"))

    def _save_at_end(self, trainer: XoronTrainer, reason: Reason) -> None:
        """Raises: CheckpointError when the disk refused it until a signal came, or gives back something else."""
        control = trainer.control
        num_signals = control.signals.count

        def gives_up() -> bool:
            return control.signals.count > num_signals or (control.end is not None and not control.end.save)

        problem = self.write(trainer, reason, gives_up)
        if problem is None:
            verify_checkpoint(self.run.checkpoint_dir(trainer.global_step), control.poll)
            self.events.append(PhaseEvent(phase="verified"))
        elif control.end is None or control.end.save:
            raise CheckpointError(f"no checkpoint at step {trainer.global_step}: {problem}")

    def write(self, trainer: XoronTrainer, reason: Reason, gives_up: Callable[[], bool]) -> str | None:
        """One checkpoint, unless this step has one; what stood in its way when it was given up."""
        self.events.append(PhaseEvent(phase="saving"))
        if trainer.global_step == self._last_step:
            return None
        return self.disk.wait(lambda: self._try(trainer, reason), trainer.control, gives_up)

    def _try(self, trainer: XoronTrainer, reason: Reason) -> str | None:
        """Write one where there is room; else what stands in the way."""
        content = trainer.snapshot().take(model_to_yaml(self.config))
        if (problem := self.disk.shortage(content.num_bytes)) is not None:
            return problem
        begin = now()
        step = trainer.global_step
        target = self.run.checkpoint_dir(step)
        try:
            size = write_checkpoint(target, content, trainer.control.poll)
        except CheckpointError as error:
            return f"{error}; make room, and training goes on by itself"
        self._last_step = step
        relative = str(target.relative_to(self.run.path))
        self.events.append(CheckpointEvent(step=step, path=relative, reason=reason, bytes=size, seconds=now() - begin))
        self._retire(trainer.state.best_step)
        for tell in self.on_written:
            tell(target, reason)
        return None

    def _retire(self, best_step: int | None) -> None:
        keep = self.config.checkpoint
        try:
            retire_checkpoints(
                self.run.checkpoints, keep.keep_last, keep.keep_every, best_step if keep.keep_best else None
            )
        except OSError as error:  # costs room, not the run
            self.events.append(AlertEvent(level="warning", message=f"old checkpoints cannot be removed: {error}"))

"""Checkpoints on the Hugging Face hub, beside the steps: every so-manieth, and that of a run that is complete."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Literal

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError, ConfigError
from xoron_core.contract.events import AlertEvent, EvalEvent, Event, LogEvent, PhaseEvent
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.export.card import HeldOut, ModelCard, Progress
from xoron_core.export.description import ModelDescription
from xoron_core.export.files import special_ids, write_files
from xoron_core.export.upload import Repository
from xoron_core.export.weights import WEIGHTS_FILE, link_weights
from xoron_core.training.checkpoint import step_of
from xoron_core.training.control import EventSink
from xoron_core.training.hooks.base import Hook
from xoron_core.training.publishing import RETRY_WAITS_S, Job, Outcome, Publishing

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer

STAGED = ".upload-"
"""How a folder that is being uploaded is called, before the checkpoint's name."""
FINAL_WAIT_S = 1800.0
"""How long a run that is complete waits for its last upload."""
MAX_UPLOAD_S = 3 * 3600.0
"""How long an upload may take before it counts as hung."""
_POLL_S = 0.1


class NotedEvaluations:
    """Passes events on, and remembers the newest evaluation, which the model card tells of."""

    def __init__(self, events: EventSink) -> None:
        self.events = events
        self.latest: EvalEvent | None = None

    @property
    def is_stalled(self) -> bool:
        """As the events themselves."""
        return self.events.is_stalled

    def append(self, event: Event) -> int:
        """Write one record."""
        if isinstance(event, EvalEvent):
            self.latest = event
        return self.events.append(event)

    def flush(self) -> bool:
        """Try to write what waits."""
        return self.events.flush()


@dataclass(frozen=True)
class _Staged:
    """A folder that waits to be uploaded, and the step of its checkpoint."""

    folder: Path
    step: int


class HubHook(Hook):
    """Uploads in a process of its own, one at a time; of several that wait, the newest. Whatever goes wrong is told,
    and never stops training.

    `on_written` is to be called with every checkpoint that is complete. An end that was asked for waits for no
    upload; a run that is complete does, for `final_wait_s`, unless somebody asks it to end.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        events: EventSink,
        evaluations: NotedEvaluations,
        *,
        final_wait_s: float = FINAL_WAIT_S,
        retry_waits_s: tuple[float, ...] = RETRY_WAITS_S,
    ) -> None:
        self.config = config
        self.run = run
        self.events = events
        self.evaluations = evaluations
        self.final_wait_s = final_wait_s
        self.retry_waits_s = retry_waits_s
        self._trainer: XoronTrainer | None = None
        self._repository: Repository | None = None
        self._num_written = 0
        self._last_step = -1
        self._current: Publishing | None = None
        self._uploading: _Staged | None = None
        self._waiting: _Staged | None = None
        self._told_problem: str | None = None

    def before_training(self, trainer: XoronTrainer) -> None:
        """Remove what a killed upload has left; where there is a repository, look whether it can be written."""
        self._trainer = trainer
        for left in self.run.checkpoints.glob(f"{STAGED}*"):
            shutil.rmtree(left, ignore_errors=True)
        hub = self.config.hub
        name = trainer.hf_repo_id or hub.repo_id
        if name is not None:
            self._repository = Repository(name, hub.private, trainer.hf_token)
            self._begin(None)

    def after_step(self, trainer: XoronTrainer) -> None:
        """Hear how the upload under way went, and begin the next."""
        self._look()

    def on_written(self, checkpoint: Path, reason: str) -> None:
        """Take a checkpoint that is complete, where it is one that is to be uploaded."""
        self._num_written += 1
        if self._num_written % self.config.hub.every == 0 or reason == "final":
            self._take(checkpoint)

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Wait for the last upload of a run that is complete; leave off what an ending one has not uploaded."""
        last = self.run.checkpoint_dir(trainer.global_step)
        if trainer.control.end is None and last.is_dir():
            self._take(last)
        self._look()
        if self._is_busy:
            self._wait(trainer)
        if self._current is not None:
            self._leave_off(trainer)

    @property
    def _is_busy(self) -> bool:
        return self._current is not None or self._waiting is not None

    def _wait(self, trainer: XoronTrainer) -> None:
        control, repository = trainer.control, self._repository
        if control.end is None and repository is not None:
            self.events.append(PhaseEvent(phase="closing", detail=f"uploading to {repository.repo_id}"))
        until = monotonic() + self.final_wait_s
        while self._is_busy and control.end is None and monotonic() < until:
            self._look(_POLL_S)
            control.poll()

    def _leave_off(self, trainer: XoronTrainer) -> None:
        """End what is under way, and say what is not uploaded."""
        assert self._current is not None
        self._current.end()
        self._current = None
        left = [staged for staged in (self._uploading, self._waiting) if staged is not None]
        self._uploading = self._waiting = None
        was_asked = trainer.control.end is not None
        why = "the run was asked to end" if was_asked else f"it took longer than {self.final_wait_s:g} s"
        for staged in left:
            shutil.rmtree(staged.folder, ignore_errors=True)
            message = (
                f"the checkpoint of step {staged.step} is not uploaded: {why}; `xoron export` makes a folder of it"
            )
            self.events.append(
                LogEvent(level="info", message=message) if was_asked else AlertEvent(level="warning", message=message)
            )

    def _take(self, checkpoint: Path) -> None:
        """Put a checkpoint's model where no retirement reaches it, and upload it as soon as nothing else is."""
        step = step_of(checkpoint)
        if self._repository is None or step == self._last_step:
            return
        try:
            staged = _Staged(self._stage(checkpoint), step)
        except (OSError, ValueError, CheckpointError, ConfigError) as error:
            self._tell_problem(step, str(error))
            return
        self._last_step = step
        if self._waiting is not None:
            shutil.rmtree(self._waiting.folder, ignore_errors=True)
            message = f"the checkpoint of step {self._waiting.step} is not uploaded: that of step {step} is newer"
            self.events.append(LogEvent(level="info", message=message))
        self._waiting = staged
        self._look()

    def _stage(self, checkpoint: Path) -> Path:
        """A folder in the Hugging Face layout with a checkpoint's weights; nothing of its optimizer.

        Raises: OSError where the disk refuses it; ValueError for a model without a language model.
        """
        trainer, repository = self._trainer, self._repository
        assert trainer is not None and repository is not None and trainer.tokenizer is not None
        description = ModelDescription.of(trainer.model, special_ids(trainer.tokenizer))
        state, latest = trainer.state, self.evaluations.latest
        held_out = None if latest is None else HeldOut(latest.step, latest.values)
        progress = Progress(state.step, state.tokens, state.samples)
        card = ModelCard(repository.repo_id, description, self.config, progress, held_out)
        folder = checkpoint.with_name(f"{STAGED}{checkpoint.name}")
        try:
            folder.mkdir(exist_ok=True)
            link_weights(checkpoint / WEIGHTS_FILE, folder)
            write_files(folder, description, trainer.tokenizer, card.render())
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _begin(self, staged: _Staged | None) -> None:
        """Start a process for a folder; without one, for a look at the repository."""
        repository = self._repository
        assert repository is not None
        job = Job(repository, waits_s=self.retry_waits_s)
        if staged is not None:
            lora = self.config.lora
            options = lora.to_dict() if lora.use_lora else None
            job = Job(repository, str(staged.folder), f"Step {staged.step}", options, self.retry_waits_s)
        try:
            self._current = Publishing(job)
            self._uploading = staged
        except OSError as error:  # e.g. no memory for another process
            if staged is not None:
                shutil.rmtree(staged.folder, ignore_errors=True)
            self._tell_problem(None if staged is None else staged.step, str(error))

    def _look(self, wait_s: float = 0.0) -> None:
        """Take what has come of the process, and start another where something waits."""
        if self._current is not None:
            outcome = self._current.outcome(wait_s)
            if outcome is None and monotonic() - self._current.begun_s > MAX_UPLOAD_S:
                self._current.end()
                outcome = Outcome(problem=f"it took longer than {MAX_UPLOAD_S:g} s")
            if outcome is None:
                return
            staged, self._uploading, self._current = self._uploading, None, None
            if staged is not None:
                shutil.rmtree(staged.folder, ignore_errors=True)
            self._tell(staged, outcome)
        if self._waiting is not None:
            staged, self._waiting = self._waiting, None
            self._begin(staged)

    def _tell(self, staged: _Staged | None, outcome: Outcome) -> None:
        if outcome.problem is not None:
            self._tell_problem(None if staged is None else staged.step, outcome.problem)
        elif staged is not None:
            self._told_problem = None
            message = f"the checkpoint of step {staged.step} is uploaded: {outcome.url}"
            self.events.append(LogEvent(level="info", message=message))

    def _tell_problem(self, step: int | None, problem: str) -> None:
        """An alert; of the same problem again, a line in the log."""
        assert self._repository is not None
        what = "checkpoints cannot" if step is None else f"the checkpoint of step {step} could not"
        message = f"{what} be uploaded to {self._repository.repo_id}: {problem}; training goes on"
        level: Literal["error", "warning"] = "error" if step is None else "warning"
        is_new = problem != self._told_problem
        self._told_problem = problem
        self.events.append(
            AlertEvent(level="error", message=message) if is_new else LogEvent(level=level, message=message)
        )

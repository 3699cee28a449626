"""What the model makes of each modality's fixed prompts, as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.events import AlertEvent, SampleEvent
from xoron_core.contract.files import write_atomic
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.data.records import derive_seed
from xoron_core.modalities.base import Artifact
from xoron_core.training.control import EventSink, answer_requests
from xoron_core.training.hooks.base import Hook, tell_phase

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer


class SampleHook(Hook):
    """Makes samples every `sample_steps` steps, on request and at the end, each prompt with the same noise always."""

    def __init__(self, config: RunConfig, run: RunDirectory, events: EventSink) -> None:
        self.seed = config.evaluation.seed
        self.run = run
        self.events = events
        self._last_step = -1

    def before_training(self, trainer: XoronTrainer) -> None:
        """Make up for samples that were broken off."""
        if trainer.state.owes_samples:
            self.make(trainer)

    def after_step(self, trainer: XoronTrainer) -> None:
        """Make samples when they are due or asked for."""
        every = trainer.config.sample_steps
        if trainer.control.sample_requests or (every is not None and trainer.global_step % every == 0):
            self.make(trainer)
        self._answer(trainer, "they could not be made, or the run was asked to end")

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Show what the finished model makes."""
        if end is None and trainer.config.sample_steps is not None:
            self.make(trainer)
        self._answer(trainer, "the run ended first")

    def _answer(self, trainer: XoronTrainer, refusal: str) -> None:
        """Tell those who asked for samples whether this step has them."""
        is_done = self._last_step == trainer.global_step
        requests = trainer.control.sample_requests
        answer_requests(self.events, requests, CommandKind.SAMPLE, None if is_done else refusal)

    def make(self, trainer: XoronTrainer) -> None:
        """The samples of this step, unless they are there already."""
        if trainer.global_step == self._last_step:
            return
        tell_phase(self.events, trainer, "sampling")
        trainer.model.eval()
        try:
            is_complete = self._make_all(trainer)
            trainer.state.owes_samples = not is_complete
            self._last_step = trainer.global_step if is_complete else self._last_step
        except OSError as error:  # a full disk costs samples, not the run
            message = f"no samples at step {trainer.global_step}: {error.strerror or error}"
            self.events.append(AlertEvent(level="error", message=message))
        trainer.model.train()
        tell_phase(self.events, trainer)

    def _make_all(self, trainer: XoronTrainer) -> bool:
        """A sample of every prompt; False when a request to end broke it off."""
        directory = self.run.sample_dir(trainer.global_step)
        directory.mkdir(parents=True, exist_ok=True)
        index: list[dict[str, str | None]] = []
        for modality in trainer.modalities.values():
            held_out = [] if trainer.eval_dataset is None else trainer.eval_dataset.samples[modality.name]
            for number, prompt in enumerate(modality.prompts(held_out)):
                trainer.control.poll()
                if trainer.control.end is not None:
                    return False
                generator = torch.Generator().manual_seed(derive_seed(self.seed, modality.name, number))
                with torch.inference_mode(), trainer.precision.in_evaluation():
                    artifacts = modality.sample(trainer.model, prompt, generator)
                stem = f"{modality.name}-{number}"
                index += [
                    self._write(trainer.global_step, directory, stem, modality.name, artifact) for artifact in artifacts
                ]
        write_atomic(directory / "index.json", json.dumps(index, indent=1) + "\n")
        return True

    def _write(self, step: int, directory: Path, stem: str, modality: str, artifact: Artifact) -> dict[str, str | None]:
        path = directory / f"{stem}.{artifact.suffix}"
        path.write_bytes(artifact.content)
        relative = str(path.relative_to(self.run.path))
        shown = {"mime": artifact.mime, "caption": artifact.caption, "expected": artifact.expected}
        self.events.append(SampleEvent(step=step, modality=modality, path=relative, **shown))
        return {"modality": modality, "file": path.name, **shown}

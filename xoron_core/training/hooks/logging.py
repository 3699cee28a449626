"""Metrics and bad samples, as events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, cast

import torch

from xoron_core.contract.events import AlertEvent, BadSampleEvent, MetricsEvent, NonFiniteEvent, PhaseEvent, StateEvent
from xoron_core.contract.states import RunState
from xoron_core.training.control import EventSink
from xoron_core.training.evaluation import with_derived
from xoron_core.training.hooks.base import Hook
from xoron_core.training.metrics import peak_memory_gib, split_non_finite

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer

DISK_RETRY_S = 0.5


class LoggingHook(Hook):
    """Writes the metrics of every `logging_steps` steps, and each unreadable sample as it is met."""

    def __init__(self, events: EventSink) -> None:
        self.events = events

    def before_training(self, trainer: XoronTrainer) -> None:
        """Say that training runs."""
        self.events.append(StateEvent(state=RunState.RUNNING))
        self.events.append(PhaseEvent(phase="training"))

    def after_step(self, trainer: XoronTrainer) -> None:
        """Write what is due."""
        for bad in trainer.new_bad_samples:
            self.events.append(BadSampleEvent(source=bad.source, index=bad.index, reason=bad.reason, count=bad.count))
        trainer.new_bad_samples.clear()
        if trainer.is_logging_step:
            self._write_metrics(trainer, trainer.metrics.flush())
        if trainer.config.empty_cache_freq and trainer.global_step % trainer.config.empty_cache_freq == 0:
            torch.cuda.empty_cache()
        self._wait_for_disk(trainer)

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Write the metrics of a window that is not full; it goes into the checkpoint as it is, to be filled later."""
        if not trainer.is_logging_step:
            self._write_metrics(trainer, trainer.metrics.means())

    def _write_metrics(self, trainer: XoronTrainer, means: dict[str, float]) -> None:
        if not means:
            return
        raw = with_derived(means, trainer.modalities) | trainer.stopwatch.values()
        raw["optim/lr"] = trainer.last_lr
        raw["memory/peak_gib"] = peak_memory_gib(trainer.device)
        if trainer.scaler is not None:
            raw["optim/loss_scale"] = trainer.scaler.get_scale()
        raw |= {f"data/{name}/micro_batches": float(n) for name, n in trainer.state.micro_batches.items()}
        raw |= {f"data/{name}/samples": float(n) for name, n in trainer.source_counts.items()}
        raw["data/bad_samples"] = float(trainer.num_bad_samples)
        values, odd = split_non_finite(raw)
        state = trainer.state
        self.events.append(MetricsEvent(step=state.step, tokens=state.tokens, samples=state.samples, values=values))
        for name, text in odd.items():
            self._tell_non_finite(trainer, name, text)
        trainer.stopwatch.reset()

    def _tell_non_finite(self, trainer: XoronTrainer, name: str, text: str) -> None:
        area = name.partition("/")[0]
        concerned = {area} if area in trainer.last_sample_ids else set(trainer.last_sample_ids)
        ids = [sample for modality in sorted(concerned) for sample in trainer.last_sample_ids[modality]]
        self.events.append(
            NonFiniteEvent(
                step=trainer.global_step,
                name=name,
                value=cast("Literal['nan', 'inf', '-inf']", text),
                modality=area if area in trainer.last_sample_ids else None,
                sample_ids=ids,
            )
        )

    def _wait_for_disk(self, trainer: XoronTrainer) -> None:
        """Hold still while the disk refuses events; they wait in memory. A request to end is still heard."""
        was_stalled = self.events.is_stalled
        while self.events.is_stalled and trainer.control.end is None:
            time.sleep(DISK_RETRY_S)
            self.events.flush()
            trainer.control.poll()
        if was_stalled and not self.events.is_stalled:
            self.events.append(AlertEvent(level="warning", message="the disk was full; training waited for room"))

"""Metrics and bad samples, as events."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, cast

from xoron_core.contract.events import (
    AlertEvent,
    BadSampleEvent,
    MetricsEvent,
    NonFiniteEvent,
    PhaseEvent,
    StateEvent,
    TroubleEvent,
)
from xoron_core.contract.states import RunState
from xoron_core.data.records import BadSample
from xoron_core.training.control import EventSink
from xoron_core.training.evaluation import with_derived
from xoron_core.training.hooks.base import Hook, tell_phase
from xoron_core.training.metrics import peak_memory_gib, split_non_finite

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer


MAX_TOLD_OF_A_KIND = 10


class LoggingHook(Hook):
    """Writes the metrics of every `logging_steps` steps, and each unreadable sample as it is met."""

    def __init__(self, events: EventSink) -> None:
        self.events = events
        self._num_told: Counter[tuple[str, str]] = Counter()
        self._untold: dict[str, BadSample] = {}

    def before_training(self, trainer: XoronTrainer) -> None:
        """Say that training runs, where nobody asked to end meanwhile."""
        if trainer.control.end is None:
            self.events.append(StateEvent(state=RunState.RUNNING))
        tell_phase(self.events, trainer)

    def after_step(self, trainer: XoronTrainer) -> None:
        """Write what is due."""
        while trainer.new_alerts:  # workers' deaths are added by threads
            self.events.append(AlertEvent(level="warning", message=trainer.new_alerts.pop(0)))
        for bad in trainer.new_bad_samples:
            self._meet(bad)
        for sample in trainer.new_skipped_samples:
            reason = f"{sample} is left out, here and wherever the plan draws it, as this attempt was told to"
            self.events.append(TroubleEvent(action="skip", reason=reason))
        if trainer.is_logging_step:
            self._tell_newest_bad()
            self._write_metrics(trainer, trainer.metrics.flush())

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Say that the step under way is done or dropped, and write the metrics of a window that is not full; it goes
        into the checkpoint as it is, to be filled later."""
        if end is not None:
            self.events.append(PhaseEvent(phase="draining"))
        self._tell_newest_bad()
        if not trainer.is_logging_step:
            self._write_metrics(trainer, trainer.metrics.means())

    def _meet(self, bad: BadSample) -> None:
        """Tell the first few of a source and kind; of the others the newest, with the count, when metrics are due."""
        self._num_told[bad.source, bad.kind] += 1
        if self._num_told[bad.source, bad.kind] <= MAX_TOLD_OF_A_KIND:
            self._untold.pop(bad.source, None)
            self._tell_bad(bad)
        else:
            self._untold[bad.source] = bad

    def _tell_newest_bad(self) -> None:
        while self._untold:
            _, bad = self._untold.popitem()
            self._tell_bad(bad)

    def _tell_bad(self, bad: BadSample) -> None:
        self.events.append(
            BadSampleEvent(source=bad.source, index=bad.index, problem=bad.kind, reason=bad.reason, count=bad.count)
        )

    def _write_metrics(self, trainer: XoronTrainer, means: dict[str, float]) -> None:
        if not means:
            return
        raw = with_derived(means, trainer.modalities) | trainer.stopwatch.values()
        raw["optim/lr"] = trainer.last_lr
        raw["memory/peak_gib"] = peak_memory_gib(trainer.device)
        if trainer.scaler is not None:
            raw["optim/loss_scale"] = trainer.scaler.get_scale()
        raw["optim/skipped_steps"] = float(trainer.state.skipped_steps)
        raw |= {f"data/{name}/micro_batches": float(n) for name, n in trainer.state.micro_batches.items()}
        raw |= {f"data/{name}/samples": float(n) for name, n in trainer.state.source_counts.items()}
        raw |= {f"data/{name}/bad": float(n) for name, n in trainer.state.bad_counts.items() if n}
        raw["data/bad_samples"] = float(trainer.state.num_bad_samples)
        raw["data/skipped_samples"] = float(trainer.state.num_skipped_samples)
        values, odd = split_non_finite(raw)
        state = trainer.state
        self.events.append(MetricsEvent(step=state.step, tokens=state.tokens, samples=state.samples, values=values))
        for name, text in odd.items():
            self._tell_non_finite(trainer, name, text)
        trainer.odd_sample_ids.clear()
        trainer.stopwatch.reset()

    def _tell_non_finite(self, trainer: XoronTrainer, name: str, text: str) -> None:
        """With the samples of the steps since the last metrics that were skipped for it, else of the step just done."""
        area = name.partition("/")[0]
        known = trainer.odd_sample_ids or trainer.last_sample_ids
        concerned = {area} if area in known else set(known)
        ids = [sample for modality in sorted(concerned) for sample in known[modality]]
        self.events.append(
            NonFiniteEvent(
                step=trainer.global_step,
                name=name,
                value=cast("Literal['nan', 'inf', '-inf']", text),
                modality=area if area in known else None,
                sample_ids=ids,
            )
        )

"""Held-out evaluation every `eval_steps` steps, at the end of an epoch and at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xoron_core.contract.events import AlertEvent, EvalEvent
from xoron_core.training.control import EventSink
from xoron_core.training.evaluation import evaluate
from xoron_core.training.hooks.base import Hook, tell_phase
from xoron_core.training.metrics import now, split_non_finite

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer


class EvaluationHook(Hook):
    """Evaluates; a request to end breaks an evaluation off after the batch under way."""

    def __init__(self, events: EventSink) -> None:
        self.events = events
        self._last_step = -1
        self._epoch = 0

    def before_training(self, trainer: XoronTrainer) -> None:
        """Note where training begins; tell what cannot be evaluated; make up for an evaluation that was broken off."""
        self._epoch = trainer.state.epoch
        if trainer.eval_dataset is not None and (unreadable := trainer.eval_dataset.unreadable):
            message = f"{len(unreadable)} held-out rows cannot be read and are left out; the first: {unreadable[0]}"
            self.events.append(AlertEvent(level="warning", message=message))
        if trainer.state.owes_evaluation:
            self.run(trainer)

    def after_step(self, trainer: XoronTrainer) -> None:
        """Evaluate when it is due."""
        every = trainer.config.eval_steps
        epoch_ended = trainer.state.epoch > self._epoch
        self._epoch = trainer.state.epoch
        if epoch_ended or (every is not None and trainer.global_step % every == 0):
            self.run(trainer)

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """Evaluate the finished model."""
        if end is None:
            self.run(trainer)

    def run(self, trainer: XoronTrainer) -> None:
        """One evaluation, unless this step had one."""
        if trainer.eval_dataset is None or trainer.global_step == self._last_step:
            return
        tell_phase(self.events, trainer, "evaluating")
        begin = now()
        trainer.model.eval()
        result: dict[str, float] | None = None
        for result in evaluate(trainer.model, trainer.eval_dataset, trainer.modalities, trainer.device):
            trainer.control.poll()
            if result is None and trainer.control.end is not None:
                break
        trainer.model.train()
        trainer.state.owes_evaluation = result is None
        if result is not None:
            self._report(trainer, result, now() - begin)
        tell_phase(self.events, trainer)

    def _report(self, trainer: XoronTrainer, result: dict[str, float], seconds: float) -> None:
        self._last_step = trainer.global_step
        headline = [value for name, value in result.items() if name.endswith("/loss")]
        mean = sum(headline) / len(headline) if headline else math.nan
        if math.isfinite(mean):
            best = trainer.state.best_loss
            trainer.state.best_loss = mean if best is None else min(best, mean)
        values, _ = split_non_finite(result)
        state = trainer.state
        self.events.append(
            EvalEvent(step=state.step, tokens=state.tokens, samples=state.samples, seconds=seconds, values=values)
        )

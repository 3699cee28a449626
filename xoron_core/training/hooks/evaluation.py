"""Held-out evaluation every `eval_steps` steps, at the end of an epoch and at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xoron_core.contract.events import AlertEvent, EvalEvent, LogEvent
from xoron_core.training.control import EventSink
from xoron_core.training.evaluation import MEAN_LOSS, evaluate
from xoron_core.training.hooks.base import Hook, tell_phase
from xoron_core.training.metrics import now, split_non_finite

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest
    from xoron_core.training.trainer import XoronTrainer


class EvaluationHook(Hook):
    """Evaluates, and notes which evaluation was best: that in which `best_metric` was lowest.

    A request to end breaks an evaluation off after the batch under way.
    """

    def __init__(self, events: EventSink, best_metric: str = MEAN_LOSS) -> None:
        self.events = events
        self.best_metric = best_metric
        self._last_step = -1
        self._epoch = 0
        self._has_told_of_metric = False

    def before_training(self, trainer: XoronTrainer) -> None:
        """Note where training begins; tell what cannot be evaluated; make up for an evaluation that was broken off."""
        self._epoch = trainer.state.epoch
        self._forget_other_metric(trainer)
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
        with trainer.precision.in_evaluation():
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
        values, _ = split_non_finite(result)
        state = trainer.state
        self.events.append(
            EvalEvent(step=state.step, tokens=state.tokens, samples=state.samples, seconds=seconds, values=values)
        )
        self._compare(trainer, result)

    def _compare(self, trainer: XoronTrainer, result: dict[str, float]) -> None:
        """Note the evaluation where it is better than all before it; tell once where that cannot be known."""
        state, value = trainer.state, result.get(self.best_metric)
        if value is None:
            if result and not self._has_told_of_metric:
                self._has_told_of_metric = True
                message = (
                    f"checkpoint.best_metric is {self.best_metric!r}, which this evaluation does not give, so which "
                    f"one is best is not known; it gives {', '.join(sorted(result))}"
                )
                self.events.append(AlertEvent(level="warning", message=message))
        elif math.isfinite(value) and (state.best_loss is None or value < state.best_loss):
            state.best_loss, state.best_step = value, state.step

    def _forget_other_metric(self, trainer: XoronTrainer) -> None:
        """The best value of another metric than the one that counts now says nothing."""
        state = trainer.state
        if state.best_metric != self.best_metric and state.best_loss is not None:
            message = f"checkpoint.best_metric was {state.best_metric!r} before; the best value of it is forgotten"
            self.events.append(LogEvent(level="info", message=message))
            state.best_loss = state.best_step = None
        state.best_metric = self.best_metric

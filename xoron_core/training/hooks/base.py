"""What happens around the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xoron_core.contract.events import PhaseEvent, PhaseName

if TYPE_CHECKING:
    from xoron_core.training.control import EndRequest, EventSink
    from xoron_core.training.trainer import XoronTrainer


class Hook:
    """Called by the trainer at fixed places; each does one periodic thing."""

    def before_training(self, trainer: XoronTrainer) -> None:
        """Before the first step."""

    def after_step(self, trainer: XoronTrainer) -> None:
        """After every optimizer step."""

    def after_training(self, trainer: XoronTrainer, end: EndRequest | None) -> None:
        """After the last step; `end` is the request that ended training, None when it is complete."""


def tell_phase(events: EventSink, trainer: XoronTrainer, phase: PhaseName = "training") -> None:
    """Say what happens now, where nobody asked to end: then the phases of the end are told."""
    if trainer.control.end is None:
        events.append(PhaseEvent(phase=phase))

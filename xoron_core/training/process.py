"""The trainer process of a run: files in, events out, an exit status that its keeper understands."""

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from xoron_core.contract.commands import CommandKind
from xoron_core.contract.events import AlertEvent, PhaseEvent, PhaseName, ReceiptEvent, StateEvent
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, attempt_config
from xoron_core.contract.states import RunState
from xoron_core.contract.writer import EventWriter
from xoron_core.training.control import EXIT_CODES, EndRequest, RunControl, ending_signals


def run_attempt(run: RunDirectory, attempt: int) -> int:
    """Train one attempt of a run; the exit status.

    Raises: whatever stands in the way, after telling it by an event.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with EventWriter(run.path, attempt) as events:
        control = RunControl(run.commands, attempt, events)
        with ending_signals(control.request_end):
            try:
                with ExitStack() as resources:
                    end = _train(run, run.attempt(attempt), events, control, resources)
            except Exception as error:
                events.append(AlertEvent(level="error", message=f"{type(error).__name__}: {error}"))
                raise
        events.sync()
    return int(ExitCode.COMPLETED if end is None else EXIT_CODES[end.kind])


def _train(
    run: RunDirectory, record: AttemptRecord, events: EventWriter, control: RunControl, resources: ExitStack
) -> EndRequest | None:
    def on_phase(phase: PhaseName) -> None:
        events.append(PhaseEvent(phase=phase))
        control.poll()
        if control.end is not None:
            raise _EndedEarly

    config = attempt_config(record)
    resume_from = None if record.checkpoint is None else run.inside(record.checkpoint)
    try:
        on_phase("setup")
        from xoron_core.training.build import build_trainer  # seconds of imports: after the first look for requests
        from xoron_core.training.hooks import standard_hooks

        trainer = build_trainer(config, standard_hooks(config, run, events), control, resume_from, on_phase, resources)
    except _EndedEarly:
        assert control.end is not None
        pausing = control.end.kind is CommandKind.PAUSE
        events.append(StateEvent(state=RunState.PAUSING if pausing else RunState.STOPPING, reason=control.end.reason))
        return control.end
    if trainer.receipt is not None and record.checkpoint is not None:
        receipt = trainer.receipt
        events.append(
            ReceiptEvent(
                checkpoint=record.checkpoint,
                step=trainer.global_step,
                restored=receipt.restored,
                reset=receipt.reset,
                missing=receipt.missing,
            )
        )
    return trainer.train()


class _EndedEarly(Exception):  # noqa: N818 -- not an error: somebody asked to end before the first step
    """Leave the set-up."""


def main(arguments: list[str]) -> int:
    """`python -m xoron_core.training RUN_DIR ATTEMPT`."""
    run_dir, attempt = arguments
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return run_attempt(RunDirectory(Path(run_dir).absolute()), int(attempt))

"""The trainer process of a run: files in, events out, an exit status that its keeper understands."""

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic

from xoron_core.contract.beat import BeatWriter
from xoron_core.contract.commands import CommandKind
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.events import AlertEvent, PhaseEvent, PhaseName, ReceiptEvent
from xoron_core.contract.exit_codes import ExitCode
from xoron_core.contract.run_directory import AttemptRecord, RunDirectory, attempt_config
from xoron_core.contract.writer import EventWriter
from xoron_core.distributed.join import join
from xoron_core.distributed.launch import Launch, end_with_parent
from xoron_core.distributed.ranks import Ranks
from xoron_core.training.control import (
    EXIT_CODES,
    Control,
    EndRequest,
    EventSink,
    NoEvents,
    RunControl,
    Signals,
    answer_requests,
    ending_signals,
)
from xoron_core.training.last_words import LastWords, exit_code

log = logging.getLogger(__name__)


def run_attempt(run: RunDirectory, attempt: int, launch: Launch | None = None) -> int:
    """Train one attempt of a run, as the rank that `launch` says; the exit status, which is in its last words, too.

    Raises: whatever stands in the way, after telling it by an event and in its last words.
    """
    launch = launch or Launch()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    words = LastWords(run, attempt, launch.rank)
    with ending_signals() as signals, words.of_failure():
        with _open_events(run, attempt, launch) as events, ExitStack() as resources:
            record = run.attempt(attempt)
            config = attempt_config(record)
            control = _control(run, record, config, launch, events, signals, resources)
            words.control = control
            end = _train(run, record, config, launch, events, control, resources)
        code = ExitCode.COMPLETED if end is None else EXIT_CODES[end.kind]
        words.of_order(code)
    return int(code)


@contextmanager
def _open_events(run: RunDirectory, attempt: int, launch: Launch) -> Iterator[EventSink]:
    """Where this rank tells what happens; an error within is told, too."""
    if launch.rank > 0:
        yield NoEvents()
        return
    with EventWriter(run.path, attempt) as events:
        try:
            yield events
        except Exception as error:  # whatever it is, a person is told, and it goes on
            events.append(AlertEvent(level="error", message=f"{type(error).__name__}: {error}"))
            raise
        events.sync()


def _control(
    run: RunDirectory,
    record: AttemptRecord,
    config: RunConfig,
    launch: Launch,
    events: EventSink,
    signals: Signals,
    resources: ExitStack,
) -> Control:
    """Rank 0 hears commands and gives the run's sign of life; all hear signals."""
    if launch.rank > 0:
        return Control(signals)
    first = run.line(record.attempt)[0].attempt
    beat = resources.enter_context(closing(BeatWriter(run.beat_file)))
    grace_s = config.trouble.stop_grace_s
    return RunControl(
        run.commands, record.attempt, first, events, beat, grace_s, signals, has_launcher=launch.has_launcher
    )


def _train(
    run: RunDirectory,
    record: AttemptRecord,
    config: RunConfig,
    launch: Launch,
    events: EventSink,
    control: Control,
    resources: ExitStack,
) -> EndRequest | None:
    """Set up and train; the request that ended it, None when it is complete."""
    events.append(PhaseEvent(phase="setup"))
    control.poll()
    _check_number(config, launch)
    ranks = join(launch, config.resources.device)
    try:
        _leave_if_asked(control, ranks)
        end = _train_together(run, record, config, events, control, ranks, resources)
    except _EndedEarlyError:
        for kind, requests in (
            (CommandKind.CHECKPOINT, control.checkpoint_requests),
            (CommandKind.SAMPLE, control.sample_requests),
        ):
            answer_requests(events, requests, kind, "the run ended before training began")
        events.append(PhaseEvent(phase="closing"))
        end = control.end
    ranks.close()
    return end


def _train_together(
    run: RunDirectory,
    record: AttemptRecord,
    config: RunConfig,
    events: EventSink,
    control: Control,
    ranks: Ranks,
    resources: ExitStack,
) -> EndRequest | None:
    from xoron_core.training.build import build_trainer  # seconds of imports: after the first look for requests
    from xoron_core.training.hooks import standard_hooks

    def between_parts() -> None:
        control.poll()
        _leave_if_asked(control, ranks)

    def on_phase(phase: PhaseName) -> None:
        events.append(PhaseEvent(phase=phase))
        between_parts()

    resume_from = None if record.checkpoint is None else run.inside(record.checkpoint)
    hooks = standard_hooks(config, run, events) if ranks.is_first else []
    progress = DataProgress(events)
    trainer = build_trainer(
        config,
        hooks,
        control,
        resume_from,
        on_phase,
        resources,
        ranks,
        record.skip,
        between_parts,
        cache=run.source_cache,
        on_detail=progress.tell,
    )
    if trainer.receipt is not None and record.checkpoint is not None:
        receipt = trainer.receipt
        events.append(
            ReceiptEvent(
                checkpoint=record.checkpoint,
                step=trainer.global_step,
                restored=receipt.restored,
                reset=receipt.reset,
                missing=receipt.missing,
                hashes=receipt.hashes,
            )
        )
    between_parts()
    return trainer.train()


class DataProgress:
    """Tells how far looking through files is, once a second."""

    def __init__(self, events: EventSink) -> None:
        self.events = events
        self._next_s = monotonic() + 1.0

    def tell(self, progress: str) -> None:
        """Where there is something to tell."""
        if progress and monotonic() >= self._next_s:
            self.events.append(PhaseEvent(phase="data", detail=progress))
            self._next_s = monotonic() + 1.0


def _check_number(config: RunConfig, launch: Launch) -> None:
    """Raises: ConfigError when others than the configured number of processes were started."""
    wanted = config.resources.num_processes
    if wanted != launch.world_size:
        raise ConfigError.of(
            "resources.processes", f"{launch.world_size} were started; the keeper starts as many as it says", wanted
        )


def _leave_if_asked(control: Control, ranks: Ranks) -> None:
    if control.agree(ranks) is not None:
        raise _EndedEarlyError


class _EndedEarlyError(Exception):
    """Leave the set-up: somebody asked to end before the first step."""


def main(arguments: list[str]) -> int:
    """`python -m xoron_core.training RUN_DIR ATTEMPT`, by itself or as one of torchrun's workers.

    A launcher takes every status but 0 for a failure, and passes none on: then the last words tell which end it was.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    launch = Launch.of(os.environ)
    if launch.has_launcher:
        end_with_parent()
    run_dir, attempt = arguments
    run = RunDirectory(Path(run_dir).absolute())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(run.compile_cache))
    try:
        code = run_attempt(run, int(attempt), launch)
    except Exception as error:  # boundary: every error becomes a status, with its traceback in the log
        log.exception("attempt %s ends by an error", attempt)
        if launch.has_launcher:
            sys.stderr.flush()
            os._exit(exit_code(error))  # what was begun with a rank that is gone would hold up an orderly exit
        return exit_code(error)
    return 0 if launch.has_launcher else code

"""Steps of a run done again from one of its checkpoints, in a folder of their own: nothing of the run is written."""

import json
import logging
import os
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from xoron_core.contract.errors import CheckpointError, RunDirectoryError
from xoron_core.contract.events import AlertEvent, PhaseEvent, PhaseName
from xoron_core.contract.run_directory import RunDirectory, attempt_config
from xoron_core.contract.writer import EventWriter
from xoron_core.distributed.join import join
from xoron_core.distributed.launch import Launch, end_with_parent
from xoron_core.training.control import Control, EventSink, NoEvents, ending_signals
from xoron_core.training.last_words import in_one_line

if TYPE_CHECKING:
    import torch

    from xoron_core.training.hooks.base import Hook

log = logging.getLogger(__name__)
FAILED = 1


def replay(
    run: RunDirectory, attempt: int, checkpoint: Path, last_step: int, events: EventSink, launch: Launch
) -> None:
    """Train from a checkpoint to `last_step` as an attempt of the run did; metrics and evaluations go to `events`.

    Raises: CheckpointError when sums are added up in another way here than where the checkpoint was written;
    RunDirectoryError when it is ended before its time; whatever stands in the way of a trainer.
    """
    from xoron_core.training.build import build_trainer, pick_device

    record = run.attempt(attempt)
    config = attempt_config(record)

    def on_phase(phase: PhaseName) -> None:
        events.append(PhaseEvent(phase=phase))

    with ending_signals() as signals, ExitStack() as resources:
        control = Control(signals)
        ranks = join(launch, config.resources.device)
        _check_machine(checkpoint, pick_device(config, ranks))
        hooks = _hooks(events, config.checkpoint.best_metric, control, last_step) if ranks.is_first else []
        trainer = build_trainer(
            config, hooks, control, checkpoint, on_phase, resources, ranks, record.skip, cache=run.source_cache
        )
        trainer.train()
        if trainer.global_step < last_step:
            raise RunDirectoryError(f"the replay ended after step {trainer.global_step}, before step {last_step}")
        ranks.close()


def _hooks(events: EventSink, best_metric: str, control: Control, last_step: int) -> "list[Hook]":
    """Those that say what can be compared, and one that ends it."""
    from xoron_core.training.hooks.evaluation import EvaluationHook
    from xoron_core.training.hooks.logging import LoggingHook
    from xoron_core.training.hooks.stopping import StopHook

    return [LoggingHook(events), EvaluationHook(events, best_metric), StopHook(control, last_step)]


def _check_machine(checkpoint: Path, device: "torch.device") -> None:
    """The number of CPU threads is the attempt's already."""
    from xoron_core.training.snapshot import machine

    saved, here = json.loads((checkpoint / "state.json").read_text(encoding="utf-8")), machine(device)
    for name in ("torch", "device"):
        if saved.get(name, here[name]) != here[name]:
            raise CheckpointError(
                f"{checkpoint.name} was written with {name} {saved[name]}, and this is {name} {here[name]}: sums may "
                "differ in their last bits; verify it where the run was trained"
            )


def main(arguments: list[str]) -> int:
    """`python -m xoron_core.training.replay RUN_DIR ATTEMPT CHECKPOINT LAST_STEP SCRATCH`, by itself or as one of
    torchrun's workers; rank 0 writes `events.jsonl` in SCRATCH, an error as its last alert."""
    run_dir, attempt, checkpoint, last_step, scratch = arguments
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    launch = Launch.of(os.environ)
    if launch.has_launcher:
        end_with_parent()
    with nullcontext(NoEvents()) if launch.rank else EventWriter(Path(scratch), int(attempt)) as events:
        try:
            replay(RunDirectory(Path(run_dir)), int(attempt), Path(checkpoint), int(last_step), events, launch)
        except Exception as error:  # boundary: every error becomes a status, with its traceback in the log
            log.exception("the replay ends by an error")
            events.append(AlertEvent(level="error", message=in_one_line(error)))
            if launch.has_launcher:
                sys.stderr.flush()
                os._exit(FAILED)  # what was begun with a rank that is gone would hold up an orderly exit
            return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

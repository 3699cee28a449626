"""Everything periodic, in the one order in which it happens after a step."""

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.control import EventSink
from xoron_core.training.disk import Disk
from xoron_core.training.hooks.base import Hook
from xoron_core.training.hooks.checkpoints import CheckpointHook
from xoron_core.training.hooks.disk import DiskHook
from xoron_core.training.hooks.evaluation import EvaluationHook
from xoron_core.training.hooks.hub import HubHook, NotedEvaluations
from xoron_core.training.hooks.logging import LoggingHook
from xoron_core.training.hooks.samples import SampleHook

__all__ = ["Hook", "standard_hooks"]


def standard_hooks(config: RunConfig, run: RunDirectory, events: EventSink) -> list[Hook]:
    """What a run does around its steps. Metrics go first, so that nothing is lost by what fails after them; what
    writes files comes after the look for room; the checkpoint goes after all of these, so that it holds the step as
    everybody was told of it, and its way to the hub begins once it is written."""
    disk = Disk(run.path, config.trouble.min_free_disk_gib, events)
    noted = NotedEvaluations(events)
    checkpoints = CheckpointHook(config, run, disk, events)
    hub = HubHook(config, run, events, noted)
    checkpoints.on_written.append(hub.on_written)
    return [
        LoggingHook(events),
        DiskHook(disk, run.checkpoints, events),
        EvaluationHook(noted, config.checkpoint.best_metric),
        SampleHook(config, run, events),
        checkpoints,
        hub,
    ]

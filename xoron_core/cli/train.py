"""`xoron train`: a run without a server, its keeper in the foreground."""

import contextlib
import json
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from xoron_core.cli.options import DEFAULT_HOME, Home, Json, Preset, Words, overrides

if TYPE_CHECKING:
    from pathlib import Path

    from server.gpus.leases import Lease
    from xoron_core.cli.progress import Progress
    from xoron_core.contract.config.run import RunConfig
    from xoron_core.contract.run_directory import AttemptExit, RunDirectory
    from xoron_core.contract.tailer import EventTailer

_POLL_S = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILED = 1


def train(
    words: Words = None,
    preset: Preset = None,
    name: Annotated[str | None, typer.Option(help="What to call the run.")] = None,
    home: Home = DEFAULT_HOME,
    trainer_command: Annotated[str | None, typer.Option(hidden=True)] = None,
    *,
    as_json: Json = False,
) -> None:
    """Train here and now, no server needed; a server on the same home shows the run, too.

    Ctrl-C stops with a checkpoint; a second one sends SIGTERM. What the configuration says of trouble is done: a run
    that crashes goes on from its last checkpoint. Status 1: the run failed.
    """
    from xoron_core.cli.progress import JsonLines, Screen

    run, leases = _create(home, words or [], preset, name)
    command = None if trainer_command is None else json.loads(trainer_command)
    progress: Progress = JsonLines() if as_json else Screen(run)
    end = _Foreground(run, command, progress).run_to_end(leases)
    if end is None or end.state == "failed":
        raise typer.Exit(FAILED)


def _create(home: "Path", words: list[str], preset: str | None, name: str | None) -> "tuple[RunDirectory, list[Lease]]":
    """A run with its first attempt begun, so that no server on this home takes it for one that waits; its GPUs."""
    from server.runs.attempts import begin_attempt
    from xoron_core.contract.errors import RunDirectoryError
    from xoron_core.contract.home import Home as HomeFolder
    from xoron_core.contract.presets import resolve
    from xoron_core.contract.run_directory import RunDirectory, new_record
    from xoron_core.contract.sources import check_sources

    config = resolve(preset, overrides(words))
    check_sources(config)
    folder = HomeFolder(home)
    folder.prepare()
    free, required = folder.free_gib(), config.trouble.min_free_disk_gib
    if free < required:
        raise RunDirectoryError(
            f"{free:.2f} GiB are free at {folder.path} and {required:g} GiB are required; "
            "free some space or lower trouble.min_free_disk_gib"
        )
    record = new_record("run", preset=preset)
    record.name = name or f"{preset or 'run'}-{record.id.rpartition('-')[2]}"
    leases = _lease(config, holder=str(folder.runs / record.id))
    making = folder.path / "creating"
    run = RunDirectory.create(making, record, config)
    begin_attempt(run, record)
    final = folder.runs / record.id
    run.path.rename(final)
    with contextlib.suppress(OSError):  # another run is being made there
        making.rmdir()
    return RunDirectory(final), leases


def _lease(config: "RunConfig", holder: str) -> "list[Lease]":
    """The GPUs that the environment allows, as many as the run needs."""
    from server.gpus.inventory import open_inventory
    from server.gpus.leases import Leases
    from server.settings import Settings
    from xoron_core.cli.gpus import take_gpus

    inventory = open_inventory(Settings.read().gpus)
    try:
        return take_gpus(config.resources, inventory, Leases(), holder)
    finally:
        inventory.close()


class _Foreground:
    """A keeper that this process started and waits for."""

    def __init__(self, run: "RunDirectory", command: list[str] | None, progress: "Progress") -> None:
        self._run = run
        self._command = command
        self._progress = progress
        self._num_interrupts = 0

    def run_to_end(self, leases: "list[Lease]") -> "AttemptExit | None":
        """Show progress until the keeper is gone; how the last attempt ended, None when the keeper cannot tell. The
        GPUs are the keeper's from its start on."""
        from server.runs.launchers.local import launch
        from xoron_core.contract.tailer import EventTailer

        early: list[int] = []
        with EventTailer(self._run.path) as tailer, self._progress:
            for number in _SIGNALS:  # until there is a keeper to tell, they are kept for it
                signal.signal(number, lambda received, _: early.append(received))
            keeper = launch(self._run, 1, trainer=self._command, leases=leases)
            for lease in leases:
                lease.release()
            for number in _SIGNALS:
                signal.signal(number, lambda received, _: self._on_signal(received, keeper))
            try:
                for received in early:
                    self._on_signal(received, keeper)
                self._follow(keeper, tailer)
            except BaseException:  # e.g. nobody reads stdout any more: the run ends with the command
                keeper.terminate()
                raise
            ends = self._run.exits().attempts
            end = ends[-1] if ends and ends[-1].state != "recovering" else None
            self._progress.end(self._run, end)
        return end

    def _follow(self, keeper: "subprocess.Popen[bytes]", tailer: "EventTailer") -> None:
        is_over = False
        while not is_over:
            is_over = _has_ended(keeper)
            while records := tailer.poll():
                for record in records:
                    self._progress.show(record)

    def _on_signal(self, number: int, keeper: "subprocess.Popen[bytes]") -> None:
        from server.runs.attempts import newest_attempt
        from xoron_core.contract.commands import CommandKind

        self._num_interrupts += 1
        if number == signal.SIGINT and self._num_interrupts == 1:
            self._run.commands.post(CommandKind.STOP, attempt=newest_attempt(self._run))
            self._progress.say("stopping with a checkpoint; Ctrl-C again to end at once")
        else:
            keeper.terminate()
            self._progress.say("SIGTERM sent to the trainer")


def _has_ended(keeper: "subprocess.Popen[bytes]") -> bool:
    try:
        keeper.wait(timeout=_POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True

"""`xoron runs verify-resume`: steps of a run done again from a checkpoint, compared bit for bit."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xoron_core.cli.options import DEFAULT_HOME, Home, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.gpus.leases import Lease
    from xoron_core.cli.recorded import Difference, Section
    from xoron_core.contract.config.run import RunConfig
    from xoron_core.contract.run_directory import RunDirectory

DIFFERS = 1
_POLL_S = 0.05
_MAX_SHOWN = 20


def verify_resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or its folder.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps to do again; else 10, or as many as there are metrics of.")
    ] = None,
    checkpoint: Annotated[
        int | None, typer.Option(min=0, metavar="STEP", help="Step of the checkpoint; else the newest that serves.")
    ] = None,
    home: Home = DEFAULT_HOME,
    *,
    as_json: Json = False,
) -> None:
    """Do steps of an ended run again from one of its checkpoints, and compare every metric bit for bit.

    No server is needed, and nothing of the run is written. Status 1: something differs.
    """
    from xoron_core.cli.recorded import course_of, differences, records_of, section_of

    run = _ended_run(home, run_id)
    section = section_of(run, checkpoint, steps)
    with TemporaryDirectory(prefix="xoron-replay-", ignore_cleanup_errors=True) as scratch:
        _replay(run, section, Path(scratch))
        again = course_of(records_of(Path(scratch)), section.attempt, section.step + 1, section.last_step)
    found = differences(section.course, again)
    if as_json:
        typer.echo(json.dumps(_report(run, section, found), indent=2))
    else:
        _show(run, section, found)
    if found:
        raise typer.Exit(DIFFERS)


def _ended_run(home: Path, run_id: str) -> "RunDirectory":
    """Raises: RunDirectoryError when there is no such run, or it has not ended."""
    from xoron_core.contract.errors import RunDirectoryError
    from xoron_core.contract.home import Home as HomeFolder
    from xoron_core.contract.run_directory import RunDirectory

    run = RunDirectory(Path(run_id)) if (Path(run_id) / "run.json").is_file() else HomeFolder(home).run(run_id)
    keeper = run.own_keeper()
    if keeper is not None and keeper.keeper.is_alive():
        raise RunDirectoryError(f"run {run.id} is still going on (attempt {keeper.attempt}); stop or pause it first")
    return RunDirectory(run.path.absolute())


def _replay(run: "RunDirectory", section: "Section", scratch: Path) -> None:
    """Do the steps again in processes of their own, with what decides about sums as the attempt had it.

    Raises: RunDirectoryError with the reason when they cannot be done.
    """
    from server.gpus.inventory import open_inventory
    from server.gpus.leases import Leases, fds
    from server.runs.keeping import processes
    from server.settings import Settings
    from xoron_core.cli.gpus import take_gpus
    from xoron_core.contract.run_directory import attempt_config

    config = _with_threads(attempt_config(run.attempt(section.attempt)), section.threads)
    inventory = open_inventory(Settings.read().gpus)
    with ExitStack() as resources:
        resources.callback(inventory.close)
        leases: list[Lease] = take_gpus(config.resources, inventory, Leases(), holder=str(scratch))
        for lease in leases:
            resources.callback(lease.release)
        words = [str(run.path), str(section.attempt), str(section.checkpoint), str(section.last_step), str(scratch)]
        command = [sys.executable, "-m", "xoron_core.training.replay", *words]
        if config.resources.num_processes > 1:
            own = resources.enter_context(TemporaryDirectory(prefix="xoron-ranks-", ignore_cleanup_errors=True))
            command = [*processes.launcher_command(config.resources.num_processes, own), *command]
        uuids = [lease.uuid for lease in leases]
        environment = processes.trainer_environment(os.environ, scratch, config, uuids)
        log = resources.enter_context((scratch / "replay.log").open("wb"))
        process = processes.start_trainer(command, environment, log.fileno(), fds(leases))
        _wait(process, section, scratch)


def _with_threads(config: "RunConfig", threads: int | None) -> "RunConfig":
    """The number that the attempt itself may have left open was that of its machine."""
    chosen = config.resources.threads or threads
    return config.model_copy(update={"resources": config.resources.model_copy(update={"threads": chosen})})


def _wait(process: "subprocess.Popen[bytes]", section: "Section", scratch: Path) -> None:
    """Raises: RunDirectoryError when the replay fails."""
    from xoron_core.contract.errors import RunDirectoryError

    try:
        _follow(process, section, scratch)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise RunDirectoryError(
            f"steps {section.step + 1} to {section.last_step} cannot be done again: {_reason(scratch)}"
        )


def _follow(process: "subprocess.Popen[bytes]", section: "Section", scratch: Path) -> None:
    """Tell how far it is until it has ended."""
    from rich.console import Console

    from xoron_core.contract.tailer import EventTailer

    with Console(stderr=True).status("replay: starting") as status, EventTailer(scratch) as tailer:
        while process.poll() is None:
            try:
                process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                for record in tailer.poll():
                    if record["kind"] == "metrics":
                        status.update(f"replay: step {record['step']} of {section.step + 1} to {section.last_step}")


def _reason(scratch: Path) -> str:
    """The replay's last word, or the last line that it printed."""
    from xoron_core.cli.recorded import records_of

    alerts = [r["message"] for r in records_of(scratch) if r["kind"] == "alert" and r["level"] == "error"]
    printed = (scratch / "replay.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return str((alerts or printed or ["it said nothing"])[-1])


def _report(run: "RunDirectory", section: "Section", found: "Sequence[Difference]") -> dict[str, Any]:
    return {
        "run": run.id,
        "attempt": section.attempt,
        "checkpoint": str(section.checkpoint.relative_to(run.path)),
        "first_step": section.step + 1,
        "last_step": section.last_step,
        "compared_steps": sorted(section.course),
        "num_values": sum(map(len, section.course.values())),
        "is_same": not found,
        "differences": [
            {"step": one.step, "metric": one.metric, "run": one.run, "replay": one.replay} for one in found
        ],
    }


def _show(run: "RunDirectory", section: "Section", found: "Sequence[Difference]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("step", "values", "train/loss", "replay"):
        table.add_column(column, justify="right" if column != "replay" else "left")
    for step, values in sorted(section.course.items()):
        count = sum(one.step == step for one in found)
        loss = values.get("train/loss")
        told = "–" if loss is None else f"{loss:.6g}"
        table.add_row(str(step), str(len(values)), told, f"{count} differ" if count else "the same")
    console.print(table)
    what = f"{section.checkpoint.name} of run {run.id}, attempt {section.attempt}"
    if not found:
        console.print(f"steps {section.step + 1} to {section.last_step} after {what}: the same to the last bit")
        return
    first = found[0]
    console.print(f"not the same after {what}: the first difference is at step {first.step}, {first.metric}")
    for one in found[:_MAX_SHOWN]:
        console.print(f"  step {one.step}  {one.metric}: run {one.run!r}, replay {one.replay!r}")
    if len(found) > _MAX_SHOWN:
        console.print(f"  and {len(found) - _MAX_SHOWN} more (--json shows all)")

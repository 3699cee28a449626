"""`xoron runs …`: a server's runs, over REST; `verify-resume` alone reads their folders."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from xoron_core.cli.options import Json, Preset, Token, Url, Words, overrides
from xoron_core.cli.verify import verify_resume

if TYPE_CHECKING:
    from xoron_core.client import XoronClient
    from xoron_core.contract.api import Queue, Run

app = typer.Typer(help="List, start and steer the runs of a server.", no_args_is_help=True)

URL = "http://127.0.0.1:8000"
FAILED, TIMED_OUT = 1, 3
_FOLLOW_S = 0.5

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@contextmanager
def _client(url: str, token: str | None) -> Iterator["XoronClient"]:
    from xoron_core.client import XoronClient

    with XoronClient(url, token) as client:
        yield client


@app.command("list")
def list_runs(
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only runs with this tag; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    url: Url = URL,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """The newest runs."""
    from xoron_core.contract.states import RunState

    unknown = sorted(set(state or []) - {known.value for known in RunState})
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no state; there are: {', '.join(RunState)}", param_hint="--state")
    with _client(url, token) as client:
        page = client.list_runs(states=[RunState(name) for name in state or []], tags=tag or [], limit=limit)
    if as_json:
        typer.echo(page.model_dump_json(indent=2))
    else:
        _table(page.items)


@app.command()
def start(
    words: Words = None,
    preset: Preset = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    priority: Annotated[int, typer.Option(help="Runs of a higher one are started first.")] = 0,
    idempotency_key: Annotated[str | None, typer.Option(help="Asking twice with one key starts one run.")] = None,
    url: Url = URL,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """Create a run and put it into the queue; its id is printed."""
    from xoron_core.contract.api import CreateRun

    body = CreateRun(name=name, preset=preset, config=overrides(words or []), tags=tag or [], priority=priority)
    with _client(url, token) as client:
        run = client.create_run(body, idempotency_key)
    typer.echo(run.model_dump_json(indent=2) if as_json else run.id)


@app.command()
def show(run_id: RunId, url: Url = URL, token: Token = None, *, as_json: Json = False) -> None:
    """One run."""
    with _client(url, token) as client:
        _tell(client.run(run_id), as_json=as_json)


@app.command()
def stop(
    run_id: RunId,
    url: Url = URL,
    token: Token = None,
    *,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Write a checkpoint first.")] = True,
    as_json: Json = False,
) -> None:
    """End a run after a checkpoint."""
    with _client(url, token) as client:
        _tell(client.stop(run_id, save=save), as_json=as_json)


@app.command()
def pause(run_id: RunId, url: Url = URL, token: Token = None, *, as_json: Json = False) -> None:
    """Checkpoint and let the machine go."""
    with _client(url, token) as client:
        _tell(client.pause(run_id), as_json=as_json)


@app.command()
def resume(
    run_id: RunId,
    words: Words = None,
    checkpoint: Annotated[str | None, typer.Option(help="E.g. checkpoints/step-00000300; else the newest.")] = None,
    url: Url = URL,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """Go on from a checkpoint, with values changed where asked."""
    with _client(url, token) as client:
        _tell(client.resume(run_id, checkpoint=checkpoint, config=overrides(words or [])), as_json=as_json)


@app.command()
def cancel(run_id: RunId, url: Url = URL, token: Token = None, *, as_json: Json = False) -> None:
    """End a run for good."""
    with _client(url, token) as client:
        _tell(client.cancel(run_id), as_json=as_json)


@app.command()
def queue(url: Url = URL, token: Token = None, *, as_json: Json = False) -> None:
    """The runs that wait, the next one first, and why."""
    with _client(url, token) as client:
        _tell_queue(client.queue(), as_json=as_json)


@app.command()
def move(
    run_id: RunId,
    before: Annotated[str | None, typer.Option(metavar="RUN", help="In front of this waiting run.")] = None,
    url: Url = URL,
    token: Token = None,
    *,
    first: Annotated[bool, typer.Option("--first", help="To the head of the queue.")] = False,
    last: Annotated[bool, typer.Option("--last", help="To its end.")] = False,
    as_json: Json = False,
) -> None:
    """Move a waiting run within the queue. It takes the priority of the place that it comes to."""
    from xoron_core.client.ordering import moved

    if [first, last, before is not None].count(True) != 1:
        raise typer.BadParameter("give one of --first, --last and --before RUN")
    with _client(url, token) as client:
        waiting = [run.id for run in client.queue().items]
        to = before if before is not None else waiting[0] if first and waiting else None
        _tell_queue(client.reorder(moved(waiting, run_id, to)), as_json=as_json)


@app.command()
def wait(
    run_id: RunId,
    until: Annotated[str, typer.Option(help="ended, running or step:N.")] = "ended",
    timeout: Annotated[float | None, typer.Option(help="Seconds; without it, as long as it takes.")] = None,
    url: Url = URL,
    token: Token = None,
    *,
    as_json: Json = False,
) -> None:
    """Wait for a run. Status 1: it failed, was interrupted, or ended too early; 3: the time was up."""
    from xoron_core.client import WaitEndedError, WaitTimeoutError
    from xoron_core.contract.states import RunState

    with _client(url, token) as client:
        try:
            run = client.wait(run_id, until, timeout)
        except WaitTimeoutError as error:
            typer.echo(f"xoron: {error}", err=True)
            raise typer.Exit(TIMED_OUT) from error
        except WaitEndedError as error:
            _tell(error.run, as_json=as_json)
            typer.echo(f"xoron: {error}", err=True)
            raise typer.Exit(FAILED) from error
    _tell(run, as_json=as_json)
    if run.state in {RunState.FAILED, RunState.INTERRUPTED}:
        raise typer.Exit(FAILED)


@app.command()
def logs(
    run_id: RunId,
    tail: Annotated[int, typer.Option(min=1, max=5000, help="Last lines.")] = 200,
    url: Url = URL,
    token: Token = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: Json = False,
) -> None:
    """What the trainer printed."""
    from xoron_core.contract.states import LIVE, RunState

    with _client(url, token) as client:
        page = client.logs(run_id, tail=tail)
        if as_json:
            typer.echo(page.model_dump_json(indent=2))
            return
        while True:
            sys.stdout.write(page.text)
            sys.stdout.flush()
            if not follow:
                return
            is_live = client.run(run_id).state in {*LIVE, RunState.QUEUED}
            page = client.logs(run_id, after=page.end)
            if not page.text:
                if not is_live:
                    return
                time.sleep(_FOLLOW_S)


app.command("verify-resume")(verify_resume)


def _tell(run: "Run", *, as_json: bool) -> None:
    if as_json:
        typer.echo(run.model_dump_json(indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    latest = ", ".join(f"{name} {_number(value)}" for name, value in run.latest.items())
    rows = {
        "run": run.id,
        "name": run.name,
        "state": run.state.value + (f" ({run.reason})" if run.reason else ""),
        "step": f"{run.step} of {run.max_steps}" if run.max_steps else str(run.step),
        "place": "" if run.waiting is None else f"{run.waiting.position} in the queue",
        "trouble": "" if run.trouble is None else f"{run.trouble.reason} ({run.trouble.time})",
        "attempt": str(run.attempt),
        "speed": "" if run.steps_per_s is None else f"{run.steps_per_s:.2f} steps/s",
        "latest": latest,
        "created": run.created_at,
        "can": ", ".join(run.actions),
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, json.dumps(value)[1:-1] if "\n" in value else value)
    Console(highlight=False, markup=False).print(table)


def _tell_queue(queue: "Queue", *, as_json: bool) -> None:
    if as_json:
        typer.echo(queue.model_dump_json(indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("place", "run", "name", "priority", "why it waits"):
        table.add_column(column, no_wrap=column == "run")
    for position, run in enumerate(queue.items, 1):
        table.add_row(str(position), run.id, run.name, str(run.priority), run.reason or "")
    console = Console(highlight=False, markup=False)
    console.print(f"{len(queue.live)} of {queue.max_runs} slots are taken, {len(queue.items)} runs wait")
    if queue.items:
        console.print(table)


def _table(runs: list["Run"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    waits = any(run.waiting is not None for run in runs)
    for column in ("run", "name", "state", "step", "latest", *(["why it waits"] if waits else [])):
        table.add_column(column, no_wrap=column == "run")
    for run in runs:
        state = run.state.value + (f" ({run.waiting.position}.)" if run.waiting is not None else "")
        reason = run.waiting.reason if run.waiting is not None else ""
        latest = " ".join(f"{name} {_number(value)}" for name, value in run.latest.items())
        table.add_row(
            run.id, run.name, state, f"{run.step}/{run.max_steps or '?'}", latest, *([reason] if waits else [])
        )
    Console(highlight=False, markup=False).print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"

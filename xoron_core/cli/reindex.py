"""`xoron reindex`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xoron_core.cli.options import Json

if TYPE_CHECKING:
    from server.reindexing import Reindexed


def reindex(
    home: Annotated[Path | None, typer.Option(help="Folder of runs.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Build the index of a home anew from its run directories; no server may be running on it.

    What is not given is read from XORON_HOME and XORON_DATABASE_URL. Status 1: a run could not be read.
    """
    import server.reindexing
    from server.settings import Settings

    settings = Settings.read(**({} if home is None else {"home": home}))
    found = server.reindexing.reindex(settings)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        _show(found)
    raise typer.Exit(1 if found.unreadable else 0)


def _show(found: "Reindexed") -> None:
    typer.echo(f"{found.index}: {found.runs} runs and {found.events} events in {found.seconds:.1f} s")
    if found.malformed_events:
        typer.echo(f"{found.malformed_events} malformed events were left out")
    for run_id, reason in sorted(found.unreadable.items()):
        typer.echo(f"{run_id} could not be read: {reason}")

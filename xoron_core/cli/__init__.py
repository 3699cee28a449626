"""`xoron`: one command for everything. What a subcommand needs is imported when it runs."""

import sys

import typer

from xoron_core.cli import data, doctor, export, reindex, runs, serve, train
from xoron_core.contract.errors import XoronError

app = typer.Typer(
    name="xoron",
    help="Train the Xoron multimodal model: serve the dashboard, train without it, or talk to a server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("train")(train.train)
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")
app.command("export")(export.export)
app.command("reindex")(reindex.reindex)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; an error that was foreseen is one line on stderr and status 1."""
    try:
        app()
    except XoronError as error:
        typer.echo(f"xoron: {error}", err=True)
        sys.exit(1)

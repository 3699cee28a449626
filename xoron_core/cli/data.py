"""`xoron data`: look at what a configuration would train on, before anything is trained."""

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xoron_core.cli.options import DEFAULT_HOME, Home, Json, Preset, Words, overrides

if TYPE_CHECKING:
    from pathlib import Path

    from xoron_core.contract.config.data import SourceConfig
    from xoron_core.contract.config.run import RunConfig
    from xoron_core.data.records import Record, Sample
    from xoron_core.modalities.base import Modality

app = typer.Typer(help="Look at data sources.", no_args_is_help=True)

MAX_VALUE_SHOWN = 2_000


@dataclass
class Found:
    """What was found in a source: `rows` (None: a stream does not tell), how many were tried, bad ones by kind with the
    first reason of each, the mean length of the others, and rows as the modality reads them."""

    source: str
    category: str
    modality: str
    rows: int | None
    tried: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    mean_length: float | None = None
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_bad(self) -> int:
        """All of them."""
        return sum(self.bad.values())


@app.callback()
def data() -> None:
    """Look at data sources."""


@app.command("check")
def check(
    words: Words = None,
    preset: Preset = None,
    source: Annotated[str | None, typer.Option(help="Only the source of that name.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each source to try, spread over it.")] = 100,
    show: Annotated[int, typer.Option(min=0, help="Rows of each to print, as its modality reads them.")] = 0,
    home: Home = DEFAULT_HOME,
    *,
    as_json: Json = False,
) -> None:
    """Open the sources of a configuration, try some rows of each, and say what is wrong with them.

    Status 1: in some source more is unreadable than `data.max_bad_fraction`.
    """
    from xoron_core.contract.presets import resolve
    from xoron_core.contract.sources import check_sources

    config = resolve(preset, overrides(words or []))
    check_sources(config)
    found = _look(config, source, rows, show, home.expanduser() / "cache" / "sources")
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, default=str))
    else:
        _print(found)
    limit = config.data.max_bad_fraction
    if any(one.num_bad > limit * one.tried for one in found):
        raise typer.Exit(1)


def _look(config: "RunConfig", wanted: str | None, num_rows: int, num_shown: int, cache: "Path") -> list[Found]:
    """Raises: ConfigError when no source has the wanted name."""
    from xoron_core.contract.errors import ConfigError
    from xoron_core.data.formats import check_format
    from xoron_core.data.tokenizer import Tokenizer
    from xoron_core.modalities.registry import enabled_modalities
    from xoron_core.training.build import sources_with_modality

    modalities = enabled_modalities(config, Tokenizer.load(config.model.tokenizer))
    pairs = sources_with_modality(config, modalities)
    chosen = [(source, name) for source, name in pairs if wanted in {None, source.name}]
    if not chosen:
        names = ", ".join(source.name for source, _ in pairs)
        raise ConfigError.of("--source", f"no source that trains anything has that name; there are: {names}", wanted)
    for source, _ in chosen:
        check_format(source, f"data.sources.{config.data.sources.index(source)}")
    return [_look_at(source, modalities[name], num_rows, num_shown, cache) for source, name in chosen]


def _look_at(
    source: "SourceConfig", modality: "Modality[Any, Any]", num_rows: int, num_shown: int, cache: "Path"
) -> Found:
    from contextlib import closing
    from statistics import fmean

    from xoron_core.contract.errors import DataError
    from xoron_core.data.sources import open_source
    from xoron_core.data.sources.base import Stream, spread_rows

    with closing(open_source(source, source.split, cache)) as opened:
        total = None if isinstance(opened, Stream) else len(opened)
        found = Found(source.name, source.category, modality.name, total)
        lengths = []
        for index, read in spread_rows(opened, num_rows):
            found.tried += 1
            try:
                record, sample = _prepared(read(), source, modality, index)
            except DataError as error:
                found.bad[error.kind] = found.bad.get(error.kind, 0) + 1
                found.reasons.setdefault(error.kind, str(error))
                continue
            lengths.append(sample.length)
            if len(found.shown) < num_shown:
                found.shown.append({name: _readable(value) for name, value in record.fields.items()})
    found.mean_length = fmean(lengths) if lengths else None
    return found


def _prepared(
    raw: "Record", source: "SourceConfig", modality: "Modality[Any, Any]", index: int
) -> "tuple[Record, Sample]":
    """A row with the fields that its modality reads, and the sample in it. Raises: DataError."""
    from xoron_core.data.formats import format_record
    from xoron_core.data.records import SampleOrigin

    record = format_record(raw, source, index)
    sample: Sample = modality.prepare(record, SampleOrigin(source.name, index, index))
    return record, sample


def _readable(value: Any) -> Any:
    """A value of a row without what is too long, or no text, to be printed."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(bytes(value)):,} bytes"
    if isinstance(value, str) and len(value) > MAX_VALUE_SHOWN:
        return f"{value[:MAX_VALUE_SHOWN]} … ({len(value):,} characters)"
    if isinstance(value, dict):
        return {name: _readable(inner) for name, inner in value.items()}
    return value


def _print(found: list[Found]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("source", "category", "rows", "tried", "unreadable", "mean length", box=None, pad_edge=False)
    for one in found:
        rows = "stream" if one.rows is None else f"{one.rows:,}"
        length = "–" if one.mean_length is None else f"{one.mean_length:,.1f}"
        bad = f"[red]{one.num_bad}[/]" if one.bad else "0"
        table.add_row(escape(one.source), one.category, rows, str(one.tried), bad, length)
    console.print(table)
    for one in found:
        for kind, count in one.bad.items():
            console.print(f"{escape(one.source)}: {count} × {kind}: {escape(one.reasons[kind])}", soft_wrap=True)
        for row in one.shown:
            console.print(f"[bold]{escape(one.source)}[/]", soft_wrap=True)
            for name, value in row.items():
                console.print(f"  [dim]{escape(name)}[/] {escape(str(value))}", soft_wrap=True)

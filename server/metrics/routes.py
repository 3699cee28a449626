"""REST about metrics: the summary and the curves."""

import csv
import io
import math
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Connection

from server.errors import NotFoundError
from server.metrics import store, thinning
from server.metrics.store import Point
from server.metrics.summary import summarize
from server.runs import store as run_store
from server.runs.attempts import newest_config
from server.runs.store import RunRow
from server.services import Services, services
from xoron_core.contract.api import RunMetrics, RunSeries, Series

router = APIRouter(prefix="/runs/{run_id}", tags=["metrics"])
Opened = Annotated[Services, Depends(services)]
Axis = Literal["step", "tokens", "samples", "time"]


@router.get("/metrics")
def show_metrics(run_id: str, opened: Opened) -> RunMetrics:
    """Every modality in numbers."""
    config = newest_config(opened.index.directory(run_id), opened.index.row(run_id).attempt)
    with opened.database.read() as connection:
        return summarize(connection, _row(connection, run_id), config)


@router.get("/series", response_model=RunSeries, responses={200: {"content": {"text/csv": {}}}})
def show_series(
    run_id: str,
    opened: Opened,
    keys: Annotated[str | None, Query(description="Metric names, separated by commas; none: only their list.")] = None,
    points: Annotated[int, Query(ge=2, le=1_000_000, description="At most about so many for each metric.")] = 2000,
    x: Annotated[Axis, Query(description="`time` is in seconds since 1970.")] = "step",
    start: Annotated[float, Query(alias="from")] = -math.inf,
    end: Annotated[float, Query(alias="to")] = math.inf,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 -- the contract's name
) -> RunSeries | Response:
    """Curves; where there are too many points, the smallest and largest of each stretch are kept."""
    wanted = list(dict.fromkeys(key for key in (keys or "").split(",") if key))
    with opened.database.read() as connection:
        row = _row(connection, run_id)
        cuts = row.facts.cuts()
        series = {key: _series(store.read(connection, run_id, key, cuts), x, start, end, points) for key in wanted}
        known = store.keys(connection, run_id)
    if format == "csv":
        return Response(_csv(x, series), media_type="text/csv; charset=utf-8")
    return RunSeries(run=run_id, x=x, series=series, keys=known, last_seq=row.facts.last_seq)


def _row(connection: Connection, run_id: str) -> RunRow:
    """The row as the same moment of the index has it as the points."""
    row = run_store.get(connection, run_id)
    if row is None:
        raise NotFoundError(f"there is no run {run_id!r}")
    return row


def _series(points: list[Point], axis: Axis, start: float, end: float, max_points: int) -> Series:
    at = Point._fields.index(axis)
    inside = [point for point in points if start <= point[at] <= end]
    kept = [inside[index] for index in thinning.kept([point.value for point in inside], max_points)]
    return Series(
        x=[point[at] for point in kept],
        y=[None if math.isnan(point.value) else point.value for point in kept],
        num_points=len(inside),
    )


def _csv(axis: Axis, series: dict[str, Series]) -> str:
    """A line for each point: metric, place, value (empty where it was not a number)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["metric", axis, "value"])
    for key, one in series.items():
        writer.writerows(
            [key, place, "" if value is None else value] for place, value in zip(one.x, one.y, strict=True)
        )
    return text.getvalue()

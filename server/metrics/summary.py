"""A run's metrics in numbers, modality by modality."""

import math

from sqlalchemy import Connection

from server.metrics import store
from server.metrics.store import Point, Totals
from server.runs.store import RunRow
from xoron_core.contract.api import MetricSummary, ModalityMetrics, RunMetrics
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.states import LIVE

WINDOW = 100


def summarize(connection: Connection, row: RunRow, config: RunConfig) -> RunMetrics:
    """Everything that `GET /runs/{id}/metrics` tells."""
    cuts = row.facts.cuts()
    totals = store.totals(connection, row.id, cuts)
    recent = {key: store.newest(connection, row.id, key, cuts, WINDOW) for key in totals}
    summaries = {key: _summary(key, totals[key], recent[key]) for key in totals}
    infos = modality_infos()
    weights = config.modality_weights()
    batches = {name: _latest_count(recent.get(f"data/{name}/micro_batches", [])) for name in infos}
    total_weight, total_batches = sum(weights.values()), sum(batches.values())
    is_live = row.state in LIVE
    modalities = {
        name: ModalityMetrics(
            label=info.label,
            enabled=name in weights,
            metrics={key: one for key, one in summaries.items() if key.startswith(f"{name}/")},
            eval={key: one for key, one in summaries.items() if key.startswith(f"eval/{name}/")},
            planned_share=weights.get(name, 0.0) / total_weight,
            actual_share=batches[name] / total_batches if total_batches else None,
            micro_batches=batches[name],
            samples_per_s=_samples_per_s(config, name, recent, row.facts.steps_per_s) if is_live else None,
            tokens_per_s=_latest(recent.get("speed/tokens_per_s", [])) if is_live and name == "text" else None,
        )
        for name, info in infos.items()
    }
    own = tuple(prefix for name in infos for prefix in (f"{name}/", f"eval/{name}/"))
    return RunMetrics(
        run=row.id,
        attempt=row.attempt,
        step=row.facts.step,
        tokens=row.facts.tokens,
        samples=row.facts.samples,
        modalities=modalities,
        other={key: one for key, one in summaries.items() if not key.startswith(own)},
    )


def _summary(key: str, total: Totals, recent: list[Point]) -> MetricSummary:
    finite = [point.value for point in recent if not math.isnan(point.value)]
    return MetricSummary(
        latest=_latest(recent),
        best=_best(key, total),
        mean_last_100=math.fsum(finite) / len(finite) if finite else None,
        count=total.count,
        non_finite=total.num_null,
    )


def _best(key: str, total: Totals) -> float | None:
    """The smallest or largest, where one of them is the better; losses are better when they are smaller."""
    name = key.removeprefix("eval/")
    known = {metric.name: metric.better for info in modality_infos().values() for metric in info.metrics}
    better = known.get(name, "lower" if name.endswith("loss") else "neither")
    return {"lower": total.smallest, "higher": total.largest, "neither": None}[better]


def _latest(points: list[Point]) -> float | None:
    return points[-1].value if points and not math.isnan(points[-1].value) else None


def _latest_count(points: list[Point]) -> int:
    return int(_latest(points) or 0)


def _samples_per_s(
    config: RunConfig, modality: str, recent: dict[str, list[Point]], steps_per_s: float | None
) -> float | None:
    """Samples a step, from the running counts of the modality's sources, times steps a second: a wall clock may jump,
    and it counts evaluation in."""
    rates = []
    for index in config.sources_of(modality):
        points = recent.get(f"data/{config.data.sources[index].name}/samples", [])
        points = [point for point in points if not math.isnan(point.value)]
        while len(points) > 1 and points[1].value < points[0].value:  # counting began anew with an attempt
            points = points[1:]
        if len(points) > 1 and points[-1].step > points[0].step:
            rates.append((points[-1].value - points[0].value) / (points[-1].step - points[0].step))
    return math.fsum(rates) * steps_per_s if rates and steps_per_s is not None else None

"""What a run went through, attempt by attempt, and whether that equals a run that nothing happened to."""

from dataclasses import dataclass
from typing import Any

import torch

from server.runs.facts import RunFacts, typed
from support.runs import events
from support.serving import RunningServer
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.training.checkpoint import read_checkpoint

NOT_REPEATED = ("speed/", "memory/")
"""Metrics that depend on the machine's mood."""

Course = dict[int, dict[str, float | None]]


@dataclass(frozen=True)
class Undisturbed:
    """What a run should have come to."""

    course: Course
    weights: dict[str, torch.Tensor]


def course_of(run: RunDirectory) -> Course:
    """The values of every step as they count in the end: what a later attempt did again is replaced.

    Raises: AssertionError at an event number or a step that is missing or stands twice.
    """
    records = events(run)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1)), "event numbers have a gap"
    cuts = _facts(records).cuts()
    course: Course = {}
    for record in records:
        if record["kind"] != "metrics" or record["step"] > cuts.get(record["attempt"], record["step"]):
            continue
        assert record["step"] == len(course) + 1, f"after step {len(course)} comes step {record['step']}"
        course[record["step"]] = {
            name: value for name, value in record["values"].items() if not name.startswith(NOT_REPEATED)
        }
    return course


def _facts(records: list[dict[str, Any]]) -> RunFacts:
    """As the server folds them."""
    facts = RunFacts()
    for record in records:
        facts.saw(record)
        if record["kind"] == "metrics":
            values = record["values"]
            facts.add_metrics(record["attempt"], record["step"], record["tokens"], record["samples"], values)
        elif record["kind"] != "eval" and (pair := typed(record)) is not None and pair[1] is not None:
            facts.add(pair[0], pair[1])
    return facts


def weights_of(run: RunDirectory, step: int) -> dict[str, torch.Tensor]:
    """The model in a checkpoint, every byte of which was compared with its hashes."""
    return dict(read_checkpoint(run.checkpoint_dir(step)).tensors["model"])


def undisturbed_by(run: RunDirectory, step: int) -> Undisturbed:
    """What other runs are compared with."""
    return Undisturbed(course_of(run), weights_of(run, step))


def assert_same(server: RunningServer, run_id: str, expected: Undisturbed) -> None:
    """The run's files, and what the server makes of them, equal those of the undisturbed run to the last bit."""
    run = server.home.run(run_id)
    course = course_of(run)
    assert list(course) == list(expected.course)
    for step, values in expected.course.items():
        assert course[step] == values, f"step {step}"
    assert served_course(server, run_id) == course
    weights = weights_of(run, len(expected.course))
    assert weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert torch.equal(weights[name], value), name


def served_course(server: RunningServer, run_id: str) -> Course:
    """The same from `GET /series`."""
    keys = [key for key in _series(server, run_id, "")["keys"] if not key.startswith((*NOT_REPEATED, "eval/"))]
    course: Course = {}
    for name, curve in _series(server, run_id, ",".join(keys))["series"].items():
        assert curve["x"] == sorted(set(curve["x"])), f"{name} repeats or goes back"
        for step, value in zip(curve["x"], curve["y"], strict=True):
            course.setdefault(int(step), {})[name] = value
    return dict(sorted(course.items()))


def _series(server: RunningServer, run_id: str, keys: str) -> dict[str, Any]:
    response = server.api.get(f"/runs/{run_id}/series", params={"keys": keys, "points": 10_000})
    assert response.status_code == 200, response.text
    return dict(response.json())


def story(run: RunDirectory) -> list[str]:
    """What made each attempt, and how it ended, e.g. `started → crash`, `crash → completed`."""
    ends = {end.attempt: end.failure or end.state for end in run.exits().attempts}
    attempts = [run.attempt(int(path.stem)) for path in sorted(run.attempts.glob("*.yaml"))]
    return [f"{one.cause} → {ends.get(one.attempt, 'interrupted')}" for one in attempts]


def of_kind(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    """The run's events of one kind."""
    return [record for record in events(run) if record["kind"] == kind]


def phases(run: RunDirectory, attempt: int) -> list[str]:
    """The phases that an attempt went through."""
    return [record["phase"] for record in of_kind(run, "phase") if record["attempt"] == attempt]

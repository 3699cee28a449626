"""What a run wrote of its steps, which of them can be done again, and whether a replay came to the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.checkpoints.scan import complete
from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.contract.tailer import EventTailer

NOT_REPEATED = ("speed/", "memory/", "system/")
"""Metrics of the machine, not of the training."""
DEFAULT_STEPS = 10

Course = dict[int, dict[str, Any]]
"""Values of metrics and evaluations, and counts of tokens and samples, by step."""


@dataclass(frozen=True)
class Section:
    """Steps that an attempt did after a checkpoint, up to `last_step`, and what it wrote of them."""

    checkpoint: Path
    step: int
    attempt: int
    last_step: int
    course: Course

    @property
    def threads(self) -> int | None:
        """CPU threads of whoever wrote the checkpoint; None where it does not say.

        Raises: RunDirectoryError when its state cannot be read.
        """
        path = self.checkpoint / "state.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8")).get("threads")
        except (OSError, ValueError, AttributeError) as error:
            raise RunDirectoryError(f"{path} cannot be read: {error}") from error
        return found if isinstance(found, int) else None


@dataclass(frozen=True)
class Difference:
    """A value that a replay did not come to; `missing` stands for one that is not there at all."""

    step: int
    metric: str
    run: Any
    replay: Any


MISSING = "missing"


def records_of(directory: Path) -> list[dict[str, Any]]:
    """All events in a folder, in order."""
    found: list[dict[str, Any]] = []
    with EventTailer(directory) as tailer:
        while batch := tailer.poll():
            found += batch
    return found


def course_of(records: list[dict[str, Any]], attempt: int, first_step: int, last_step: int) -> Course:
    """What an attempt wrote of these steps, without the machine's metrics."""
    course: Course = {}
    for record in records:
        if record["kind"] not in {"metrics", "eval"} or record["attempt"] != attempt:
            continue
        if first_step <= record["step"] <= last_step:
            kept = {name: value for name, value in record["values"].items() if not name.startswith(NOT_REPEATED)}
            counts = {name: record[name] for name in ("tokens", "samples")}
            course.setdefault(record["step"], {}).update(counts | kept)
    return course


def section_of(run: RunDirectory, checkpoint_step: int | None, num_steps: int | None) -> Section:
    """What to do again: after the checkpoint that is asked for, or the newest with enough steps after it.

    Raises: RunDirectoryError when there is none, saying what there is.
    """
    records = records_of(run.path)
    found = complete(run)
    if checkpoint_step is not None and checkpoint_step not in found:
        known = ", ".join(map(str, found)) or "none"
        raise RunDirectoryError(f"run {run.id} has no checkpoint of step {checkpoint_step}; there are: {known}")
    steps = [checkpoint_step] if checkpoint_step is not None else sorted(found, reverse=True)
    sections = [section for step in steps if (section := _after(run, records, found[step], step)) is not None]
    wanted = num_steps or 1
    for section in sections:
        if section.last_step - section.step >= wanted:
            return _shortened(section, num_steps)
    raise RunDirectoryError(
        f"run {run.id} has no checkpoint{'' if checkpoint_step is None else f' of step {checkpoint_step}'} with "
        f"{wanted} steps of training told after it; {_what_there_is(sections)}"
    )


def _what_there_is(sections: list[Section]) -> str:
    told = [f"{section.last_step - section.step} after that of step {section.step}" for section in sections]
    return f"there are {', '.join(told)}" if told else "there are none after any that it has"


def _after(run: RunDirectory, records: list[dict[str, Any]], checkpoint: Path, step: int) -> Section | None:
    """All that the newest attempt wrote that went on from this checkpoint as it is now; None where none did."""
    written = [r["attempt"] for r in records if r["kind"] == "checkpoint" and r["step"] == step]
    writer = written[-1] if written else 0
    relative = str(checkpoint.relative_to(run.path))
    began = {r["attempt"] for r in records if r["kind"] == "receipt" and r["checkpoint"] == relative}
    for attempt in sorted({writer, *(one for one in began if one > writer)} - {0}, reverse=True):
        told = [r["step"] for r in records if r["kind"] == "metrics" and r["attempt"] == attempt and r["step"] > step]
        if told:
            return Section(checkpoint, step, attempt, max(told), course_of(records, attempt, step + 1, max(told)))
    return None


def _shortened(section: Section, num_steps: int | None) -> Section:
    """With so many steps; without a number, the usual one, or more where metrics come more seldom.

    Raises: RunDirectoryError when nothing was written of these steps.
    """
    first_told = min(section.course)
    if num_steps is None:
        last = max(first_told, min(section.last_step, section.step + DEFAULT_STEPS))
    elif first_told > section.step + num_steps:
        raise RunDirectoryError(
            f"after the checkpoint of step {section.step}, step {first_told} is the first that metrics were written of "
            f"(training.logging_steps); give --steps {first_told - section.step} or more"
        )
    else:
        last = section.step + num_steps
    course = {step: values for step, values in section.course.items() if step <= last}
    return Section(section.checkpoint, section.step, section.attempt, last, course)


def differences(run: Course, replay: Course) -> list[Difference]:
    """Where a replay came to anything else than the run, to the last bit, in the order of the steps."""
    return [
        Difference(step, name, values.get(name, MISSING), again.get(name, MISSING))
        for step, values in sorted(run.items())
        for again in [replay.get(step, {})]
        for name in [*values, *(name for name in again if name not in values)]
        if values.get(name, MISSING) != again.get(name, MISSING)
    ]

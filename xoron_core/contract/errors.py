"""The tree of errors that this project raises. Each message carries the value seen and what to do about it."""

from dataclasses import dataclass
from typing import Any, Literal


class XoronError(Exception):
    """Base of every error that is raised on purpose."""


@dataclass(frozen=True)
class FieldProblem:
    """One thing wrong with one field of an input: where it stands, what stood there, what to do."""

    field: str
    message: str
    value: Any = None

    def __str__(self) -> str:
        where = self.field or "(top level)"
        return f"{where}: {self.message} (got {self.value!r})" if self.value is not None else f"{where}: {self.message}"


class ConfigError(XoronError):
    """A configuration that cannot be used; `problems` names every field at fault, not only the first."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))

    @classmethod
    def of(cls, field: str, message: str, value: Any = None) -> "ConfigError":
        """An error about a single field."""
        return cls([FieldProblem(field, message, value)])


BadKind = Literal[
    "unreadable",
    "empty",
    "wrong_type",
    "missing_file",
    "too_large",
    "too_long",
    "too_short",
    "not_finite",
    "silent",
    "no_frames",
    "killed_worker",
]
"""What is wrong with a row. `unreadable`: cut off or damaged; `empty`: nothing in it; `wrong_type`: a field is missing
or of another type; `too_large`: more pixels or bytes than anything has; `too_long`, `too_short`: of a sound, a text, or
the one for the other; `killed_worker`: whoever reads it dies of it, or never comes back."""


class DataError(XoronError):
    """A sample or a source that cannot be read: `source` and `index` say which, `reason` why, `kind` of what kind."""

    def __init__(self, source: str, index: int | None, reason: str, kind: BadKind = "unreadable") -> None:
        self.source = source
        self.index = index
        self.reason = reason
        self.kind = kind
        where = source if index is None else f"{source}[{index}]"
        super().__init__(f"{where}: {reason}")


class SourceLostError(XoronError):
    """A source that cannot be reached for now: nothing is wrong with its rows."""

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source}: {reason}")


class CheckpointError(XoronError):
    """A checkpoint that is missing, incomplete or altered."""


class AnotherFormatError(CheckpointError):
    """A checkpoint that another version of this program wrote."""


class RanksDifferError(XoronError):
    """Ranks that do not follow the same plan, because one of them sees other data than another."""


class NonFiniteError(XoronError):
    """A loss or gradient that is not a number, seen more often than the configuration allows."""


class StateError(XoronError):
    """A transition that the table of states does not have."""


class RunDirectoryError(XoronError):
    """A run directory, or a file in it, that is missing, malformed or in use by another process."""


class CommandError(RunDirectoryError):
    """A command file that is not a command, or one of a kind that this version does not know; `id` is its number."""

    def __init__(self, number: int, message: str) -> None:
        self.id = number
        super().__init__(message)


class EventsLockedError(RunDirectoryError):
    """Another process holds `events.lock`: a second writer is never let in."""

"""The base of every configuration section, and errors that name the field and the nearest known key."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from xoron_core.contract.errors import ConfigError, FieldProblem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class FieldValueError(ValueError):
    """What a validator of a section says of one of the fields below it; `field` is its path from there."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class Section(BaseModel):
    """A frozen section: unknown keys and wrong types are errors, nothing is coerced silently."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Validate plain data (from JSON or YAML).

        Raises: ConfigError with every problem, each naming field, value and cure.
        """
        try:
            return cls.model_validate(_tuples(data))
        except ValidationError as error:
            raise ConfigError(problems_of(cls, error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON would hold it."""
        return self.model_dump(mode="json")


def _tuples(data: Any) -> Any:
    """Lists as tuples, which strict validation of immutable sequences asks for."""
    if isinstance(data, Mapping):
        return {key: _tuples(value) for key, value in data.items()}
    if isinstance(data, list):
        return tuple(_tuples(value) for value in data)
    return data


def problems_of(model: type[BaseModel], error: ValidationError) -> list[FieldProblem]:
    """Pydantic's errors in this project's words."""
    return [
        _problem(model, _place(details), details["type"], details["msg"], details["input"])
        for details in error.errors()
    ]


def _place(details: "ErrorDetails") -> tuple[int | str, ...]:
    """Where a problem lies; a validator may have named a field below the section that it is of."""
    raised = details.get("ctx", {}).get("error")
    return (*details["loc"], raised.field) if isinstance(raised, FieldValueError) else details["loc"]


def _problem(model: type[BaseModel], loc: tuple[int | str, ...], kind: str, message: str, value: Any) -> FieldProblem:
    field = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        return FieldProblem(field, unknown_key(str(loc[-1]), _keys_at(model, loc[:-1])), value)
    if kind == "missing":
        return FieldProblem(field, "is required")
    if kind == "value_error":
        return FieldProblem(field, message.removeprefix("Value error, "))
    return FieldProblem(field, message[0].lower() + message[1:], value)


def unknown_key(key: str, known: list[str]) -> str:
    """What to say of a key (or a name) that is not among the known ones."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known here: {', '.join(sorted(known))}"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The field names of the section that `loc` leads to."""
    for part in loc:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        nested = models_in(annotation)
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's annotation names, also inside unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in models_in(argument)]

"""The columns of a row by their usual names, and the forms in which rows are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from xoron_core.contract.errors import DataError
from xoron_core.data.formats.values import is_empty, reach, said
from xoron_core.data.records import Record

Names = tuple[str, ...]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAX_COLUMNS_SHOWN = 40


def says_something(value: Any) -> bool:
    """Whether there is a text in a value, numbers and truth values included."""
    return bool(said(value))


class Need(NamedTuple):
    """One thing that a form needs: the names that its column may have, the best first, and what it may hold."""

    names: Names
    accepts: Callable[[Any], bool] = says_something
    may_be_empty: bool = False
    """Whether it is enough that the column is there."""


@dataclass(frozen=True)
class Form(Generic[T_co]):
    """One way to write the rows of a category: the columns it needs, what is made of what they hold (`make` gets the
    columns and a value for each need), and names of columns that `make` reads where they are there."""

    needs: tuple[Need, ...]
    make: Callable[..., T_co]
    also: tuple[Names, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All columns that it knows."""
        return frozenset(name for names in (*(need.names for need in self.needs), *self.also) for name in names)


class Columns:
    """The columns of a row, by names in any case; a name with dots leads into a column: `meta.title`, `turns.0.text`.

    `fields` says for some names which column to look into; such a name is then the only one of its kind.
    `seed` is the row's own, for what is drawn about it.
    """

    def __init__(self, record: Record, fields: Mapping[str, str], seed: int) -> None:
        self.record = record
        self.seed = seed
        self.fields = fields
        self._row = {str(name).lower(): value for name, value in record.fields.items()}

    def find(self, need: Need) -> Any:
        """What the first fitting column of a need holds; None where there is none."""
        for name in self._candidates(need.names):
            value = self._value(name)
            if need.may_be_empty and self._is_there(name):
                return "" if value is None else value
            if not is_empty(value) and need.accepts(value):
                return value
        return None

    def value(self, names: Names) -> Any:
        """What the first of these columns holds that something is in; None where there is none."""
        return next((value for name in self._candidates(names) if not is_empty(value := self._value(name))), None)

    def text(self, names: Names) -> str:
        """The text in the first of these columns that has one; "" where there is none."""
        return next((text for name in self._candidates(names) if (text := said(self._value(name)))), "")

    def made_by(self, forms: Sequence[Form[T]], category: str) -> T:
        """What the first form that the row fits makes of it. Forms whose needs `fields` names go first.

        Raises: DataError when it fits none.
        """
        for form in sorted(forms, key=lambda form: -sum(map(self._is_mapped, form.needs))) if self.fields else forms:
            found: list[Any] = []
            for need in form.needs:
                value = self.find(need)
                if value is None:
                    break
                found.append(value)
            else:
                return form.make(self, *found)
        raise self._not_understood(forms, category)

    def _candidates(self, names: Names) -> Sequence[str]:
        return [name for name in names if name in self.fields] or names if self.fields else names

    def _is_mapped(self, need: Need) -> bool:
        return any(name in self.fields for name in need.names)

    def _columns_of(self, need: Need) -> str:
        return "|".join(self.fields.get(name, name) for name in self._candidates(need.names))

    def _value(self, name: str) -> Any:
        path = self.fields.get(name, name)
        if (value := self._row.get(path.lower())) is not None or "." not in path:
            return value
        column, _, rest = path.partition(".")
        return reach(self._row.get(column.lower()), rest)

    def _is_there(self, name: str) -> bool:
        return self.fields.get(name, name).lower() in self._row or self._value(name) is not None

    def _not_understood(self, forms: Sequence[Form[T]], category: str) -> DataError:
        """The error for a row that no form fits: of kind `empty` where one has all of its columns, and one is empty."""
        for form in forms:
            columns = [[name for name in self._candidates(need.names) if self._is_there(name)] for need in form.needs]
            if all(columns) and (empty := [name for names in columns for name in names if is_empty(self._value(name))]):
                column = self.fields.get(empty[0], empty[0])
                return self.record.error(f"column {column!r} is empty, and so no row of category {category!r}", "empty")
        ways = [" with ".join(map(self._columns_of, form.needs)) for form in forms]
        shown = ", ".join(list(map(str, self.record.fields))[:MAX_COLUMNS_SHOWN]) or "none"
        return self.record.error(
            f"cannot be read as a row of category {category!r}: its columns are {shown}; looked for "
            f"{'; or '.join(dict.fromkeys(ways))}; name them in the source's `fields`, as in "
            f"{{{forms[-1].needs[0].names[0]}: {next(iter(self.record.fields), 'column')}}}",
            "wrong_type",
        )

"""Writes the tables of options in `docs/training.md` from the configuration itself.

    python tools/docs/option_tables.py [--check]

A table stands between `<!-- options: SECTION -->` and `<!-- end -->`, where SECTION is a field of `RunConfig`.
"""

import json
import re
import sys
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from xoron_core.contract.config.run import RunConfig

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
TABLE = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def choices(annotation: Any) -> list[str]:
    """The values of a literal, also inside a union."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in {Union, UnionType}:
        return [choice for argument in get_args(annotation) for choice in choices(argument)]
    return []


def row_of(name: str, field: FieldInfo) -> str:
    """A row: name, default, what it does."""
    default = json.dumps(field.get_default(call_default_factory=True))
    effect = " ".join((field.description or "").split())
    one_of = f" One of {', '.join(f'`{choice}`' for choice in found)}." if (found := choices(field.annotation)) else ""
    return f"| `{name}` | `{default}` | {(effect + one_of).replace('|', chr(92) + '|')} |"


def table_of(section: type[BaseModel]) -> str:
    """All options of a section."""
    rows = [row_of(name, field) for name, field in section.model_fields.items()]
    return "\n".join(["| option | default | what it does |", "|---|---|---|", *rows]) + "\n"


def with_tables(page: str) -> str:
    """The page with its tables as the configuration has them."""

    def filled(match: re.Match[str]) -> str:
        section = RunConfig.model_fields[match[2]].annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        return f"{match[1]}\n{table_of(section)}\n{match[3]}"

    return TABLE.sub(filled, page)


def main() -> None:
    """Write the page, or say that it is not up to date."""
    page = PAGE.read_text(encoding="utf-8")
    filled = with_tables(page)
    if "--check" in sys.argv and filled != page:
        raise SystemExit(f"{PAGE.name} is not up to date; run python tools/docs/option_tables.py")
    PAGE.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()

"""A configuration field exists because code reads it."""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.config.section import models_in

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "xoron_core" / "contract"
DECLARATIONS = (CONTRACT / "config", CONTRACT / "modalities")


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and name of every field below a section."""
    for name, field in model.model_fields.items():
        nested = models_in(field.annotation)
        yield f"{path}{name}", name
        for section in nested:
            yield from fields(section, f"{path}{name}.")


def test_every_field_is_read() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("server", "xoron_core")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(declared) for declared in DECLARATIONS)
    )
    read = set(re.findall(r"\.([a-z_0-9]+)\b", source))
    unread = [path for path, name in fields(RunConfig) if name not in read]
    assert unread == []

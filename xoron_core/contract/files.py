"""Durable small files: written whole or not at all, and never over one another by accident."""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel


def fsync_directory(directory: Path) -> None:
    """Make renames and new names in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_temporary(path: Path, text: str) -> Path:
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text`; a reader sees the old content or the new, never a part."""
    temporary = _write_temporary(path, text)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_new(path: Path, text: str) -> None:
    """Create `path` with `text`, whole, by `link(2)`.

    Raises: FileExistsError when the name is taken; nothing is replaced then.
    """
    temporary = _write_temporary(path, text)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(path.parent)


def to_json(model: BaseModel) -> str:
    """The JSON text of a record, indented for people, with a closing newline."""
    return model.model_dump_json(indent=2) + "\n"


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `1e-4` as a number, as YAML 1.2 does (1.1, PyYAML's, wants `1.0e-4`)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str) -> Any:
    """The plain data in a YAML text.

    Raises: yaml.YAMLError when it is not YAML.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 -- _Loader is a SafeLoader


def to_yaml(data: Any) -> str:
    """The YAML text of plain data, keys in the order given."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def model_to_yaml(model: BaseModel) -> str:
    """The YAML text of a record."""
    return to_yaml(json.loads(model.model_dump_json()))

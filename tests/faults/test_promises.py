"""What the documentation promises is held by tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
PROMISES = re.findall(r"`([a-z_/]+\.py)::([\w:]+)`", PAGE.read_text(encoding="utf-8"))


def test_every_promise_has_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    table = [line for line in rows if "test_" in line]
    assert len(table) == len(PROMISES) > 20


def names_in(file: Path) -> set[str]:
    """What pytest collects there, methods behind their classes."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found |= {f"{name}::{one.name}" for one in body if isinstance(one, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("file", "name"), PROMISES, ids=[name for _, name in PROMISES])
def test_the_test_of_a_promise_exists(file: str, name: str) -> None:
    assert name in names_in(TESTS / file)


def test_every_fault_is_a_promise() -> None:
    promised = {name for _, name in PROMISES}
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
                assert name in promised, f"{path.name} has {name}, which {PAGE.name} does not promise"

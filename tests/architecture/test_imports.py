"""Imports point down only, and the server knows no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "xoron_core.contract": set[str](),
    "xoron_core.client": {"xoron_core.contract"},
    "xoron_core.model": {"xoron_core.contract"},
    "xoron_core.modalities": {"xoron_core.contract", "xoron_core.model", "xoron_core.data"},
    "xoron_core.data": {"xoron_core.contract"},
    "xoron_core.distributed": {"xoron_core.contract"},
    "xoron_core.training": {
        "xoron_core.contract",
        "xoron_core.model",
        "xoron_core.modalities",
        "xoron_core.data",
        "xoron_core.distributed",
        "xoron_core.export",
    },
    "xoron_core.export": {"xoron_core.contract", "xoron_core.model", "xoron_core.distributed"},
    "server": {"xoron_core.contract"},
}
"""Room → other rooms that it may import. The command line may import all."""

HEAVY = {"torch", "transformers", "tokenizers", "numpy", "peft", "bitsandbytes", "diffusers", "datasets"}
LIGHT_ROOMS = ("xoron_core/contract", "xoron_core/client", "server")


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports, wherever in it they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room_of(module: str) -> str | None:
    """The room that a module lies in; None for other packages and for the command line."""
    parts = module.split(".")
    name = parts[0] if parts[0] == "server" else ".".join(parts[:2])
    return name if name in MAY_IMPORT else None


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "static" not in path.parts)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("folder", ["server", "xoron_core"])
def test_imports_point_down(folder: str) -> None:
    paths = sources(folder)
    assert paths
    for path in paths:
        room = room_of(module_of(path))
        if room is None:
            continue
        targets = {target for name in imported(path) if (target := room_of(name)) is not None and target != room}
        assert targets <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {sorted(targets - MAY_IMPORT[room])}"


@pytest.mark.parametrize("folder", LIGHT_ROOMS)
def test_light_rooms_name_no_heavy_package(folder: str) -> None:
    for path in sources(folder):
        heavy = {name.split(".")[0] for name in imported(path)} & HEAVY
        assert not heavy, f"{path.relative_to(ROOT)} imports {sorted(heavy)}"


@pytest.mark.parametrize("module", ["server.app", "server.runs.keeper", "xoron_core.contract.schema"])
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "pydantic" in loaded
    assert not loaded & HEAVY


def test_the_package_itself_is_empty() -> None:
    assert (ROOT / "xoron_core" / "__init__.py").read_text() == ""


def test_the_keeper_is_small() -> None:
    code = "import sys, server.runs.keeper; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"fastapi", "sqlalchemy", "uvicorn"} & set(done.stdout.split())

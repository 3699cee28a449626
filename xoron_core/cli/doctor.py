"""`xoron doctor`: what a training machine needs, and which of it is there."""

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from xoron_core.cli.options import DEFAULT_HOME, Home, Json, Words

_MIN_PYTHON = (3, 11)
_MIN_FREE_GIB = 1.0
_TRAIN_PACKAGES = (
    "torch", "torchaudio", "transformers", "tokenizers", "safetensors", "pillow", "numpy", "av", "soundfile", "jiwer",
    "datasets", "pyarrow",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok` is None where it is good to know and nothing more."""

    name: str
    ok: bool | None
    value: str
    hint: str = ""


def doctor(
    words: Words = None,
    home: Home = DEFAULT_HOME,
    host: Annotated[str, typer.Option(envvar="XORON_HOST", help="Address that would be served.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="XORON_PORT", help="Port that would be served.")] = 8000,
    model: Annotated[
        str | None,
        typer.Option(metavar="PRESET|CONFIG.yaml", help="Only tell how large this model is, and what training takes."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Look at Python, packages, home, disk, port and GPU; status 1 when something needed is missing. With --model:
    parameters, FLOPs a token and memory of a configuration's model, of which nothing is allocated."""
    if model is not None:
        from xoron_core.cli.model_report import report_model

        report_model(model, words or [], as_json=as_json)
        return
    if words:
        raise typer.BadParameter(f"{words[0]!r} is of a model's configuration; say --model, too")
    checks = [_python(), *_packages(), *_home(home), _port(host, port), _cpu(), _gpu()]
    is_well = all(check.ok is not False for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": is_well, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _show(checks)
    raise typer.Exit(0 if is_well else 1)


def _python() -> Check:
    is_enough = sys.version_info >= _MIN_PYTHON
    return Check("python", is_enough, platform.python_version(), "" if is_enough else "install Python 3.11 or later")


def _packages() -> list[Check]:
    return [_package(name) for name in _TRAIN_PACKAGES]


def _package(name: str) -> Check:
    try:
        return Check(name, ok=True, value=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        hint = "training needs it: pip install 'xoron[train]' (the server does not)"
        return Check(name, ok=False, value="not installed", hint=hint)


def _home(path: Path) -> list[Check]:
    from xoron_core.contract.errors import RunDirectoryError
    from xoron_core.contract.home import Home as HomeFolder
    from xoron_core.contract.home import ServerLock

    home = HomeFolder(path)
    try:
        home.prepare()
    except RunDirectoryError as error:
        return [Check("home", ok=False, value=str(home.path), hint=str(error))]
    try:
        ServerLock(home).release()
        served = Check("server", ok=None, value="none serves this home")
    except RunDirectoryError as error:
        served = Check("server", ok=None, value=str(error))
    free = home.free_gib()
    hint = "" if free >= _MIN_FREE_GIB else "free some space: checkpoints need it"
    disk = Check("disk", free >= _MIN_FREE_GIB, f"{free:.1f} GiB free", hint)
    return [Check("home", ok=True, value=f"{home.path} ({len(home.run_directories())} runs)"), served, disk]


def _port(host: str, port: int) -> Check:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return Check("port", ok=None, value=f"{host}:{port} is free")
    except OSError as error:
        hint = "a server may be running there; if it is another program's, choose one with --port"
        return Check("port", ok=None, value=f"{host}:{port}: {error.strerror}", hint=hint)


def _cpu() -> Check:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    count = len(os.sched_getaffinity(0))
    return Check(
        "machine", ok=None, value=f"{count} cores, {pages * size / 2**30:.1f} GiB memory, {platform.machine()}"
    )


def _gpu() -> Check:
    found = shutil.which("nvidia-smi") is not None or Path("/dev/nvidiactl").exists()
    hint = "" if found else "the demo preset trains on the CPU; larger models need a GPU"
    return Check("gpu", ok=None, value="an NVIDIA driver is installed" if found else "none found", hint=hint)


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    marks = {True: "[green]ok[/]     ", False: "[red]missing[/]", None: "[dim]note[/]   "}
    for check in checks:
        hint = f"  [dim]{escape(check.hint)}[/]" if check.hint else ""
        console.print(f"{marks[check.ok]} {check.name:<13} {escape(check.value)}{hint}", soft_wrap=True)

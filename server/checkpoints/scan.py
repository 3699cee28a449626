"""Checkpoints as they lie on disk."""

import re
from pathlib import Path

from xoron_core.contract.run_directory import RunDirectory

_NAME = re.compile(r"^step-(\d{8})$")


def complete(run: RunDirectory) -> dict[int, Path]:
    """Step → folder of every complete checkpoint (the manifest is written last), in order."""
    if not run.checkpoints.is_dir():
        return {}
    found = {int(match[1]): path for path in run.checkpoints.iterdir() if (match := _NAME.match(path.name))}
    return {step: found[step] for step in sorted(found) if (found[step] / "manifest.json").is_file()}


def newest(run: RunDirectory) -> Path | None:
    """The folder of the newest complete checkpoint."""
    checkpoints = complete(run)
    return checkpoints[max(checkpoints)] if checkpoints else None


def size(folder: Path) -> int:
    """Bytes of the files in a checkpoint."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""Checkpoints: whole or not there at all, told by hashes, free of pickles.

A folder `step-<8 digits>/` holds `model.safetensors`, `optimizer.safetensors`, `rng.safetensors`, `state.json`
(counters, data position, schedule, what of the optimizer is not a tensor), `config.yaml`, and `manifest.json`, written
last: sizes and SHA-256 of the others. It is made under a temporary name, fsynced, and renamed. Names with a dot in
front are of folders that are being made (`.partial`) or removed (`.retired`), and of checkpoints of a course that was
left (`.aside`).
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xoron_core.contract.errors import AnotherFormatError, CheckpointError
from xoron_core.contract.files import fsync_directory
from xoron_core.training.errors import DamagedCheckpointError

_NAME = re.compile(r"step-\d{8}\Z")
MANIFEST = "manifest.json"
PARTIAL, RETIRED, ASIDE = ".partial", ".retired", ".aside"
FORMAT = 1
CHUNK_BYTES = 2**24
SMALL_FILES_BYTES = 2**19
"""More than the files beside the tensors take."""


@dataclass(frozen=True)
class CheckpointContent:
    """What a checkpoint holds: named tensors by file, and plain data."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: dict[str, Any]
    config_yaml: str

    @property
    def num_bytes(self) -> int:
        """About what it takes on disk."""
        return SMALL_FILES_BYTES + sum(tensor.nbytes for named in self.tensors.values() for tensor in named.values())


def write_checkpoint(target: Path, content: CheckpointContent, on_progress: Callable[[], None] = lambda: None) -> int:
    """Write a checkpoint at `target`; the bytes it takes. One that stands there already is set aside when it is whole.

    `on_progress` is called every now and then meanwhile.
    Raises: CheckpointError when the disk refuses; nothing is left behind then.
    """
    temporary = target.with_name(f".{target.name}{PARTIAL}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, tensors in content.tensors.items():
            save_file(_separate(tensors), temporary / f"{name}.safetensors")
            on_progress()
        (temporary / "state.json").write_text(json.dumps(content.state, indent=1), encoding="utf-8")
        (temporary / "config.yaml").write_text(content.config_yaml, encoding="utf-8")
        files = {path.name: _fingerprint(path, on_progress) for path in sorted(temporary.iterdir())}
        manifest = {"format": FORMAT, "files": files}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in temporary.iterdir():
            _fsync(path)
            on_progress()
        fsync_directory(temporary)
        if target.exists():
            _retire(target)
        temporary.rename(target)
        fsync_directory(target.parent)
    except (OSError, SafetensorError) as error:  # the library has an error of its own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"cannot write {target}: {error}") from error
    return sum(int(entry["size"]) for entry in files.values())


def read_checkpoint(path: Path, on_progress: Callable[[], None] = lambda: None) -> CheckpointContent:
    """A checkpoint whose every byte is as it was written.

    Raises: DamagedCheckpointError naming the file that is missing, cut short or altered; AnotherFormatError when
    another version wrote it; OSError when the disk refuses to read, which it may not do the next time.
    """
    try:
        verify_checkpoint(path, on_progress)
    except AnotherFormatError:
        raise
    except CheckpointError as error:
        raise DamagedCheckpointError(str(error)) from error
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors[file.stem] = load_file(file)
        on_progress()
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return CheckpointContent(tensors, state, (path / "config.yaml").read_text(encoding="utf-8"))


def verify_checkpoint(path: Path, on_progress: Callable[[], None] = lambda: None) -> None:
    """Compare every file with the manifest.

    Raises: CheckpointError naming the file that is missing, cut short or altered; AnotherFormatError when another
    version wrote it; OSError naming the file that the disk refuses to read.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], manifest["files"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no complete checkpoint: {MANIFEST}: {error}") from error
    if version != FORMAT:
        raise AnotherFormatError(
            f"{path} has format {version!r}, this program reads {FORMAT}; take the version that wrote it"
        )
    for name, expected in files.items():
        file = path / name
        try:
            found = _fingerprint(file, on_progress)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} lacks {name}") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from error  # a failed read does not say of what
        if found != expected:
            raise CheckpointError(f"{file} is not as it was written: size or SHA-256 differ from {MANIFEST}")


def complete_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints that have a manifest, oldest step first."""
    found = (path for path in directory.glob("step-*") if _NAME.match(path.name))
    return sorted(path for path in found if (path / MANIFEST).is_file())


def set_aside_later(checkpoint: Path) -> list[Path]:
    """Hide the checkpoints of later steps than this one's, which need not exist; those hidden.

    They are of a course that was left when training went back to this step: none of them is the newest any more.
    `retire_checkpoints` removes them as the new course has ones of its own.
    """
    later = [path for path in complete_checkpoints(checkpoint.parent) if path.name > checkpoint.name]
    for path in later:
        _move(path, path.with_name(f".{path.name}{ASIDE}"))
    if later:
        fsync_directory(checkpoint.parent)
    return later


def retire_checkpoints(
    directory: Path, keep_last: int, keep_every: int | None = None, best_step: int | None = None
) -> list[Path]:
    """Remove all but the newest `keep_last`, those of every `keep_every` steps and that of the best step, and whatever
    `remove_leftovers` does; those retired.

    As long as there are fewer than `keep_last`, the oldest of those set aside make up for them.
    """
    complete = complete_checkpoints(directory)
    aside = sorted(directory.glob(f".step-*{ASIDE}"))
    for path in aside[max(0, keep_last - len(complete)) :]:
        _move(path, path.with_suffix(RETIRED))
    retired = [path for path in complete[:-keep_last] if not _stays(step_of(path), keep_every, best_step)]
    for path in retired:
        _retire(path)
    remove_leftovers(directory)
    return retired


def _stays(step: int, keep_every: int | None, best_step: int | None) -> bool:
    return step == best_step or (keep_every is not None and step % keep_every == 0)


def step_of(path: Path) -> int:
    """The step of the checkpoint in this folder."""
    return int(path.name.removeprefix("step-"))


def remove_leftovers(directory: Path) -> None:
    """Remove what was being made or removed, here or by a process that was killed over it."""
    for suffix in (PARTIAL, RETIRED):
        for hidden in directory.glob(f".step-*{suffix}"):
            shutil.rmtree(hidden)


def _retire(path: Path) -> None:
    """Take a checkpoint's name away: never half a checkpoint under its own name."""
    _move(path, path.with_name(f".{path.name}{RETIRED}"))


def _move(path: Path, target: Path) -> None:
    """Rename a folder; one that had the name before is gone."""
    if target.exists():
        shutil.rmtree(target)
    path.rename(target)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, none sharing memory with another: 8-bit optimizers share their tables, files cannot."""
    found: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for key, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        found[key] = plain.clone() if address in addresses else plain
        addresses.add(address)
    return found


def _fingerprint(path: Path, on_progress: Callable[[], None]) -> dict[str, int | str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            on_progress()
    return {"size": size, "sha256": digest.hexdigest()}


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""Small file systems and files that nobody can change, for tests, as root or in a namespace of one's own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

INSIDE = "XORON_TEST_INSIDE_OWN_MOUNTS"
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def need_mounts(request: pytest.FixtureRequest) -> None:
    """Let pass whoever may mount. For anybody else, run the test that asks in a process that is root of its own
    namespace (unshare(1)), and skip it here once it has passed there."""
    if not _refusal(["unshare", "--mount", "true"]):
        return
    refusal = _refusal([*_NAMESPACE, "true"])
    if refusal or os.environ.get(INSIDE):
        lacking(f"to mount a small disk, as root or in a user namespace: {refusal}")
    node = f"{request.node.path}::{request.node.name}"
    done = subprocess.run(
        [*_NAMESPACE, sys.executable, "-m", "pytest", "-q", node],
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pytest.skip("passed in a namespace of its own")


def lacking(what: str) -> NoReturn:
    """Skip a test that needs what this machine does not allow to anybody; pytest's summary says which and why. In CI
    it fails: nobody would see that it has lost a test."""
    if os.environ.get("CI"):
        pytest.fail(f"needs {what}; CI must not go without this test")
    pytest.skip(f"needs {what}")


def _refusal(command: Sequence[str]) -> str:
    """Why a command fails; empty where it does not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"status {done.returncode}") if done.returncode else ""


@contextlib.contextmanager
def small_disk(path: Path, size: str = "2m") -> Iterator[Path]:
    """A disk of that size at `path`, for whoever `need_mounts` lets pass."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def remount(path: Path, mode: str) -> None:
    """`ro` or `rw` for a disk that nobody writes on."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


@contextlib.contextmanager
def immutable(*paths: Path) -> Iterator[None]:
    """Files that not even root may change, and only root may make so.

    None that somebody has mapped for writing, as SQLite has `-shm`: the kernel answers him with SIGBUS.
    """
    refusal = _refusal(["chattr", "+i", *map(str, paths)])
    if refusal:
        lacking(f"to make a file immutable, as root on a disk that knows such files: {refusal}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *map(str, paths)], check=True)

"""The trainer's output on its way to `train.log`: secrets blotted out, the file rotated, the last line remembered."""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

ROTATE_BYTES = 64 * 2**20
_MAX_LINE = 64 * 2**10
_KEEP_BACK = 4 * 2**10
_MAX_LAST_LINE = 500
_BLOT = b"[redacted]"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
_HUB_TOKEN = rb"hf_[A-Za-z0-9]{8,}"
_MIN_SECRET = 6
_NOT_TEXT = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def secret_pattern(environment: Mapping[str, str]) -> re.Pattern[bytes]:
    """What must never reach the log: hub tokens, and each line of every variable whose name speaks of a secret.

    Values under six characters are let be: blotting out every `1` would hide more than it protects.
    """
    lines = {
        line.strip()
        for name, value in environment.items()
        if _SECRET_NAME.search(name)
        for line in value.splitlines()
        if len(line.strip()) >= _MIN_SECRET
    }
    known = [re.escape(line.encode("utf-8", "surrogateescape")) for line in sorted(lines, key=len, reverse=True)]
    return re.compile(b"|".join([*known, _HUB_TOKEN]))


class LogFile:
    """`train.log`, appended to; at `rotate_bytes` it becomes `train.log.1`. A full disk loses lines, never the run."""

    def __init__(self, path: Path, secrets: re.Pattern[bytes], rotate_bytes: int = ROTATE_BYTES) -> None:
        self.path = path
        self.last_line = ""
        self._secrets = secrets
        self._rotate_bytes = rotate_bytes
        self._num_lost = 0
        self._partial = b""
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._fd).st_size

    def feed(self, block: bytes) -> None:
        """Take raw output; whole lines are written, the rest waits for its end."""
        data = self._partial + block
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._partial = data[end:]
        if end:
            self._take(self._secrets.sub(_BLOT, data[:end]))
        if len(self._partial) > _MAX_LINE:  # no end in sight: what is kept back may hold the start of a secret
            clean = self._secrets.sub(_BLOT, self._partial)
            self._partial = clean[-_KEEP_BACK:]
            self._take(clean[:-_KEEP_BACK])

    def say(self, text: str) -> None:
        """A line of the keeper's own; it stands before a line of the trainer's that has not ended yet."""
        self._write(self._secrets.sub(_BLOT, f"[keeper] {text.rstrip()}\n".encode()))

    def clean(self, text: str) -> str:
        """A text without its secrets, for what is written elsewhere."""
        return self._secrets.sub(_BLOT, text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def finish(self) -> None:
        """Write what waits for the end of its line."""
        if self._partial:
            clean, self._partial = self._secrets.sub(_BLOT, self._partial), b""
            self._take(clean + b"\n")

    def _take(self, clean: bytes) -> None:
        for line in reversed(clean[-_MAX_LINE:].decode("utf-8", "replace").replace("\r", "\n").split("\n")):
            if text := _NOT_TEXT.sub("", line).strip():
                self.last_line = text[:_MAX_LAST_LINE]
                break
        self._write(clean)

    def _write(self, clean: bytes) -> None:
        try:
            if self._num_lost:
                notice = f"[keeper] {self._num_lost} bytes of output were lost: the disk refused them\n".encode()
                os.write(self._fd, notice)
                self._num_lost = 0
            if self._size >= self._rotate_bytes:
                self._rotate()
            written = 0
            while written < len(clean):
                written += os.write(self._fd, clean[written:])
            self._size += len(clean)
        except OSError:
            self._num_lost += len(clean)

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # an earlier try came no further than this
            self.path.rename(self.path.with_name(self.path.name + ".1"))
        full = self._fd
        self._open()
        os.close(full)
        os.dup2(self._fd, 2)  # what the interpreter itself might say goes on where it is looked for

    def close(self) -> None:
        """Write what waits and let go of the file."""
        self.finish()
        os.close(self._fd)

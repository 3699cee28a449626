"""Parts of `train.log` by byte offsets."""

from pathlib import Path

from xoron_core.contract.api import LogPage

MAX_BYTES = 1 << 18


def read_log(path: Path, after: int | None, tail: int) -> LogPage:
    """What stands after byte `after`, or the last `tail` lines; at most 256 KiB of it.

    A log that is shorter than `after` was rotated, and is read from its beginning.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return LogPage(text="", offset=0, end=0)
    with file:
        size = file.seek(0, 2)
        start = max(0, size - MAX_BYTES) if after is None else after if after <= size else 0
        file.seek(start)
        block = file.read(MAX_BYTES)
    if after is None:
        cut = _start_of_tail(block, tail) or (_next_character(block) if start else 0)
        start, block = start + cut, block[cut:]
    block = block[: len(block) - _torn_bytes(block)]
    return LogPage(text=block.decode("utf-8", errors="replace"), offset=start, end=start + len(block))


def _start_of_tail(block: bytes, tail: int) -> int:
    """Where the last `tail` lines begin."""
    at = len(block) - 1 if block.endswith(b"\n") else len(block)
    for _ in range(tail):
        at = block.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


def _next_character(block: bytes) -> int:
    """Bytes at the front that belong to a character whose beginning is cut off."""
    return next((at for at, byte in enumerate(block[:4]) if byte & 0xC0 != 0x80), 0)


def _torn_bytes(block: bytes) -> int:
    """Bytes at the end that begin a UTF-8 character whose rest is not there yet."""
    for back in range(1, min(4, len(block) + 1)):
        byte = block[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return back if length > back else 0
    return 0

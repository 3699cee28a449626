"""Checks of input that JSON lets through and files would not keep."""

import math
from typing import Any

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError

MAX_DEPTH = 16
MAX_TAG = 50
MAX_INTEGER = 2**63 - 1
"""What a database column holds."""


def check_plain(config: dict[str, Any]) -> None:
    """Let pass what every file format here can hold.

    Raises: ConfigError for numbers that are not finite or too large, for nesting that no configuration has and for text
    that UTF-8 has no form for.
    """
    pending: list[tuple[str, Any, int]] = [("", config, 0)]
    while pending:
        where, value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ConfigError.of(where, f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError.of(where, "must be a finite number", str(value))
        if isinstance(value, int):
            check_integer(where, value)
        if isinstance(value, str) and not _is_text(value):
            raise ConfigError.of(where, "holds half a character, a lone surrogate", ascii(value))
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        pending.extend((f"{where}.{key}" if where else str(key), child, depth + 1) for key, child in children)


def check_integer(field: str, value: int) -> None:
    """Let pass what fits into 64 bits.

    Raises: ConfigError naming the field.
    """
    if abs(value) > MAX_INTEGER:
        raise ConfigError.of(field, f"must be between -{MAX_INTEGER} and {MAX_INTEGER}", str(value))


def check_gpus(config: RunConfig, num_gpus: int) -> None:
    """Let pass a run that this server, which has so many GPUs, can start at some time.

    Raises: ConfigError naming what is there.
    """
    wanted = config.resources.num_gpus(host_has_gpus=num_gpus > 0)
    if wanted > num_gpus:
        there = "has none" if num_gpus == 0 else f"has {num_gpus}"
        raise ConfigError.of("resources.gpus", f"more GPUs than there are: this server {there}", wanted)


def check_name(name: str) -> None:
    """Let pass a name that can be seen.

    Raises: ConfigError.
    """
    if not name.strip() or not name.isprintable():
        raise ConfigError.of("name", "must be printable characters on one line, not blanks alone", ascii(name))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_tags(tags: list[str]) -> None:
    """Let pass tags that are short, printable and not given twice.

    Raises: ConfigError naming the tag.
    """
    for tag in tags:
        if not tag.strip() or len(tag) > MAX_TAG or not tag.isprintable():
            raise ConfigError.of("tags", f"a tag has 1 to {MAX_TAG} printable characters", tag)
    if len(set(tags)) < len(tags):
        raise ConfigError.of("tags", "a tag stands there twice", tags)

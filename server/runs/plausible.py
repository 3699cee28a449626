"""Checks of input that JSON lets through and files would not keep."""

import math
from typing import Any

from xoron_core.contract.errors import ConfigError

MAX_DEPTH = 16
MAX_TAG = 50


def check_plain(config: dict[str, Any]) -> None:
    """Let pass what every file format here can hold.

    Raises: ConfigError for numbers that are not finite and for nesting that no configuration has.
    """
    pending: list[tuple[str, Any, int]] = [("", config, 0)]
    while pending:
        where, value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ConfigError.of(where, f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError.of(where, "must be a finite number", str(value))
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        pending.extend((f"{where}.{key}" if where else str(key), child, depth + 1) for key, child in children)


def check_tags(tags: list[str]) -> None:
    """Let pass tags that are short, printable and not given twice.

    Raises: ConfigError naming the tag.
    """
    for tag in tags:
        if not tag.strip() or len(tag) > MAX_TAG or not tag.isprintable():
            raise ConfigError.of("tags", f"a tag has 1 to {MAX_TAG} printable characters", tag)
    if len(set(tags)) < len(tags):
        raise ConfigError.of("tags", "a tag stands there twice", tags)

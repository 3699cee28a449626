"""What a column holds, read leniently: a text among several, JSON in a text, a place inside."""

import json
from collections import Counter
from typing import Any

TEXT_KEYS = ("text", "answer", "content", "value", "caption", "sentence", "raw", "en")
"""Where a mapping that stands for a text has it."""


def is_empty(value: Any) -> bool:
    """Whether there is nothing in a value: null, no characters but white space, no elements."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, list | tuple | dict | bytes) and not value)


def said(value: Any) -> str:
    """The text in a value, "" where there is none: a number or truth value in words, of several the most frequent (of
    those alike the first), of a mapping what stands at the first of `TEXT_KEYS` that says something."""
    if isinstance(value, str):
        return "" if is_empty(value) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value) if value == value else ""  # NaN is what tables have for nothing
    if isinstance(value, dict):
        return next((text for key in TEXT_KEYS if (text := said(value.get(key)))), "")
    if isinstance(value, list | tuple):
        texts = Counter(text for item in value if (text := said(item)))
        return texts.most_common(1)[0][0] if texts else ""
    return ""


def is_text(value: Any) -> bool:
    """Whether a value is a text, or holds one."""
    return isinstance(value, str | dict | list | tuple) and bool(said(value))


def decoded(value: Any) -> Any:
    """What a text that is a JSON object or array says; anything else as it is."""
    if isinstance(value, str) and value[:64].lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):  # a text that only begins like JSON
            return value
    return value


def to_json(value: Any) -> str:
    """A value as it stands in a text: one line of JSON; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def reach(value: Any, path: str) -> Any:
    """What stands at `a.b` or `a.0` inside a value; None where nothing does."""
    for part in path.split("."):
        value = decoded(value)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def without_nulls(value: Any) -> Any:
    """A value without the null entries that tables put where one row's structure has a key that another's lacks."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value

"""What the files that belong to one row are called in it: told by their suffixes."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from xoron_core.contract.sources import MEDIA
from xoron_core.data.sources.jsonl import parse_object
from xoron_core.data.sources.rows import BadRowError

TEXTS: Mapping[str, str] = {".txt": "text", ".caption": "caption", ".cls": "label"}
"""Suffix of a file of text → the field that it is in, beside the one called like its suffix."""


def media_kind(name: str) -> str | None:
    """Whether a file is an `image`, `video` or `audio`, by its name; None: none of them."""
    return MEDIA.get(PurePath(name).suffix.lower())


def fields_of(contents: Mapping[str, bytes]) -> dict[str, Any]:
    """The fields of a row whose files have these suffixes (without the first dot).

    Each file is a field that is called like its suffix. What a JSON object holds is in the row, too, where no other
    file says otherwise; the first picture, clip or sound is also `image`, `video` or `audio`, a text as in `TEXTS`.
    Raises: BadRowError.
    """
    said: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for suffix, content in sorted(contents.items(), key=lambda item: item[0].count(".")):
        kind = "." + suffix.rpartition(".")[2]
        if kind == ".json":
            fields[suffix] = _parsed(suffix, content)
            said |= fields[suffix]
        elif kind in TEXTS:
            fields[suffix] = _decoded(suffix, content)
            fields.setdefault(TEXTS[kind], fields[suffix])
        else:
            fields[suffix] = content
            if kind in MEDIA:
                fields.setdefault(MEDIA[kind], content)
    return said | fields


def _parsed(suffix: str, content: bytes) -> Mapping[str, Any]:
    try:
        return parse_object(content)
    except BadRowError as error:
        raise BadRowError(f"its .{suffix} is {error.reason}", error.kind) from error


def _decoded(suffix: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadRowError(f"its .{suffix} is not UTF-8 text: {error}") from error

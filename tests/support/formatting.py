"""Rows as sources give them, and what a source's format makes of them."""

from collections.abc import Mapping
from typing import Any

from xoron_core.contract.config.data import SourceConfig
from xoron_core.data.formats import format_record
from xoron_core.data.records import Record


def source_of(category: str, **options: Any) -> SourceConfig:
    """A source of a category."""
    return SourceConfig.parse({"name": "rows", "category": category, "path": "p", **options})


def formatted(category: str, row: Mapping[str, Any], seed: int = 7, **options: Any) -> Mapping[str, Any]:
    """The fields that a row becomes."""
    record = Record("rows", 3, row, lambda name: name.encode())
    return format_record(record, source_of(category, **options), seed).fields

"""Fixtures for every test, and their order."""

from collections import defaultdict
from pathlib import Path

import pytest

pytest_plugins = ["support.serving", "support.postgresql"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the longest tests first: of several processes none is left with a long one at the end."""
    longest: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        if (marker := item.get_closest_marker("timeout")) is not None:
            longest[item.path] = max(longest[item.path], marker.args[0])
    items.sort(key=lambda item: -longest[item.path])

"""What the fault suite shares."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.course import Undisturbed
from support.fault_bench import FaultBench, train_undisturbed


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[FaultBench]:
    """An empty home; whatever still runs in it at the end is ended."""
    bench = FaultBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def other_bench(tmp_path: Path) -> Iterator[FaultBench]:
    """Another empty home."""
    bench = FaultBench(tmp_path / "other")
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What every run of the quick configuration should come to, whatever happens to it."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="session")
def undisturbed_by_two(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The same for two processes: a micro-batch has twice the rows then."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed-by-two"), {"resources": {"processes": 2}})


@pytest.fixture(scope="session")
def pictures() -> dict[str, Any]:
    """What makes a run learn to make pictures, too: noise and times are drawn in it."""
    return {
        "modalities": {"image_generation": {"weight": 1, "batch_size": 4, "sampling_steps": 2}},
        "training": {"max_steps": 12},
    }


@pytest.fixture(scope="session")
def undisturbed_with_pictures(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, Any]) -> Undisturbed:
    """The same for two modalities."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed-with-pictures"), pictures)

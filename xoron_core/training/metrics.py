"""Metrics: added up on the device, brought to the host once a window."""

import math
import resource
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from xoron_core.modalities.base import LossTerms


class MetricWindow:
    """Sums and counts by name, on the device, since the last `flush`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, prefix: str, terms: LossTerms) -> None:
        """Add terms (sum, count) under `prefix/name`."""
        for name, (total, count) in terms.items():
            self._accumulate(f"{prefix}/{name}", total.detach().float(), count.detach().float())

    def add_value(self, name: str, value: Tensor) -> None:
        """Add one value that is to be averaged over the window."""
        self._accumulate(name, value.detach().float(), torch.ones((), device=value.device))

    def _accumulate(self, name: str, total: Tensor, count: Tensor) -> None:
        if name in self._sums:
            self._sums[name] = self._sums[name] + total
            self._counts[name] = self._counts[name] + count
        else:
            self._sums[name], self._counts[name] = total, count

    def flush(self) -> dict[str, float]:
        """The means, and a new window."""
        means = self.means()
        self._sums, self._counts = {}, {}
        return means

    def means(self) -> dict[str, float]:
        """Means by name, by one copy to the host; names whose count is zero are left out."""
        return {name: total / count for name, (total, count) in self.state_dict().items() if count > 0}

    def state_dict(self) -> dict[str, list[float]]:
        """Sum and count by name, as plain data."""
        if not self._sums:
            return {}
        names = list(self._sums)
        device = self._sums[names[0]].device  # a model may be spread over several
        stacked = torch.stack(
            [torch.stack([self._sums[name].to(device), self._counts[name].to(device)]) for name in names]
        )
        rows: list[list[float]] = stacked.double().cpu().tolist()
        return dict(zip(names, rows, strict=True))

    def load_state_dict(self, state: Mapping[str, list[float]], device: torch.device) -> None:
        """Go on with a saved window."""
        self._sums = {name: torch.tensor(total, device=device) for name, (total, _) in state.items()}
        self._counts = {name: torch.tensor(count, device=device) for name, (_, count) in state.items()}


class Stopwatch:
    """Where the time of training steps goes, without evaluation, samples and checkpoints."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self.steps = 0
        self.tokens = 0
        self.step_s = 0.0
        self.data_s = 0.0

    def values(self) -> dict[str, float]:
        """Rates of the window; none before its first step is timed."""
        if self.step_s <= 0:
            return {}
        return {
            "speed/steps_per_s": self.steps / self.step_s,
            "speed/tokens_per_s": self.tokens / self.step_s,
            "speed/data_wait_share": self.data_s / self.step_s,
        }


def now() -> float:
    """Seconds on a clock that only goes forward."""
    return time.perf_counter()


def peak_memory_gib(device: torch.device) -> float:
    """Most memory held so far: on a GPU by its allocator, else resident by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def non_finite_name(value: float) -> str | None:
    """`nan`, `inf` or `-inf`; None for a number."""
    if math.isfinite(value):
        return None
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def split_non_finite(values: Mapping[str, float]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Values as events carry them (null for what is not a number), and what those were."""
    odd = {name: text for name, value in values.items() if (text := non_finite_name(value)) is not None}
    return {name: None if name in odd else value for name, value in values.items()}, odd

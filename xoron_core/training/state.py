"""How far training got."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainerState:
    """Counters since the run began, where the data stands after the last optimizer step, and what a stop broke off.

    `best_loss` is the lowest value of `best_metric` that any evaluation has given, and `best_step` the step of it.
    """

    step: int = 0
    epoch: int = 0
    tokens: int = 0
    samples: int = 0
    skipped_steps: int = 0
    nonfinite_in_a_row: int = 0
    nonfinite_samples: list[str] = field(default_factory=list)
    owes_evaluation: bool = False
    owes_samples: bool = False
    best_loss: float | None = None
    best_step: int | None = None
    best_metric: str = "eval/loss"
    micro_batches: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def source_counts(self) -> dict[str, int]:
        """Rows drawn from each source."""
        counts: dict[str, int] = self.data["drawn"]
        return counts

    @property
    def bad_counts(self) -> dict[str, int]:
        """Rows of each source that could not be read."""
        counts: dict[str, int] = self.data["bad"]
        return counts

    @property
    def num_bad_samples(self) -> int:
        """Rows that could not be read."""
        return sum(self.bad_counts.values())

    @property
    def num_skipped_samples(self) -> int:
        """Draws that were left out."""
        return sum(self.data["skipped"].values())

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; what an earlier version did not know keeps its start value."""
        for name in self.state_dict().keys() & state.keys():
            setattr(self, name, state[name])

"""How far training got."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainerState:
    """Counters since the run began, where the data stands after the last optimizer step, and what a stop broke off."""

    step: int = 0
    epoch: int = 0
    tokens: int = 0
    samples: int = 0
    nonfinite_in_a_row: int = 0
    owes_evaluation: bool = False
    owes_samples: bool = False
    best_loss: float | None = None
    micro_batches: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for name in self.state_dict():
            setattr(self, name, state[name])

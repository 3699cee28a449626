"""A checkpoint as the reference writes it, `checkpoint-N.pt`: read, never written, since a pickle can hold code."""

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from xoron_core.contract.errors import CheckpointError
from xoron_core.training.errors import AnotherModelError, DamagedCheckpointError

REQUIRED: dict[str, type | tuple[type, ...]] = {
    "epoch": int,
    "global_step": int,
    "model_state_dict": dict,
    "optimizer_state_dict": dict,
    "scheduler_state_dict": dict,
    "best_loss": (float, int),
}
"""Its keys, and what stands there."""


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """What such a file holds."""

    epoch: int
    """The last that is done, counted from 0."""
    global_step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    best_loss: float | None
    """None where no evaluation has set it."""
    scaler: dict[str, Any] | None

    @classmethod
    def read(cls, path: Path) -> "ReferenceCheckpoint":
        """Tensors and plain data of the file; nothing in it is run.

        Raises: CheckpointError for a file that cannot be read, that holds anything else, or that lacks a key, which it
        names.
        """
        content = _load(path)
        for key, kind in REQUIRED.items():
            if key not in content:
                raise CheckpointError(f"{path} has no {key!r}; a checkpoint of the reference has {', '.join(REQUIRED)}")
            if not isinstance(content[key], kind):
                raise CheckpointError(f"{key!r} in {path} is {type(content[key]).__name__}, which it cannot be")
        best_loss = float(content["best_loss"])
        return cls(
            content["epoch"],
            content["global_step"],
            dict(content["model_state_dict"]),
            content["optimizer_state_dict"],
            content["scheduler_state_dict"],
            best_loss if math.isfinite(best_loss) else None,
            content.get("scaler_state_dict"),
        )

    def restore(
        self, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, scaler: GradScaler | None
    ) -> list[str]:
        """Put these back; the names of what was.

        Raises: AnotherModelError naming the key of what does not fit.
        """
        key = "model_state_dict"
        try:
            model.load_state_dict(self.model)
            key = "optimizer_state_dict"
            optimizer.load_state_dict(self.optimizer)
            key = "scheduler_state_dict"
            scheduler.load_state_dict(dict(self.scheduler))
            key = "scaler_state_dict"
            if scaler is not None and self.scaler is not None:
                scaler.load_state_dict(self.scaler)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AnotherModelError(f"{key} is not of what is trained here: {error}") from error
        has_scaler = scaler is not None and self.scaler is not None
        return ["model", "optimizer", "scheduler", *(["scaler"] if has_scaler else [])]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path} is not loaded: it holds something other than tensors and plain data, which may be code that runs "
            f"when it is read ({reason}); save it again as state dictionaries"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a dictionary as the reference writes it")
    return content

"""The trainer as one of two ranks that are not alike: `odd_ranks.py ODDITY RUN_DIR ATTEMPT`, started by torchrun."""

import os
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.amp import GradScaler

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import DataError
from xoron_core.data.sources import JsonlSource
from xoron_core.training.precision import Precision
from xoron_core.training.process import main

ROW = 3
"""That only rank 0 can read."""


def unreadable() -> None:
    """As when a process has no file handle left."""
    read = JsonlSource._read_file

    def refuse(source: JsonlSource, index: int, relative: str) -> bytes:
        if index == ROW:
            raise DataError(source.name, index, f"cannot read {relative!r}: Too many open files")
        return read(source, index, relative)

    if os.environ["RANK"] == "1":
        JsonlSource._read_file = refuse  # type: ignore[method-assign]


def scaled() -> None:
    """With a scaler of the loss, which only GPUs have as a rule."""

    def of(config: TrainingConfig, model: nn.Module, device: torch.device) -> Precision:
        return Precision(device, None, GradScaler("cpu", init_scale=2.0**10))

    Precision.of = staticmethod(of)  # type: ignore[method-assign,assignment]


ODDITIES: dict[str, Callable[[], None]] = {"unreadable": unreadable, "scaled": scaled}

if __name__ == "__main__":
    ODDITIES[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))

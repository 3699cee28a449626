"""The trainer as one of two ranks that are not alike: `odd_ranks.py ODDITY RUN_DIR ATTEMPT`, started by torchrun."""

import os
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.amp import GradScaler

from xoron_core.contract.config.training import TrainingConfig
from xoron_core.contract.errors import DataError
from xoron_core.data.preparation import Preparation
from xoron_core.data.records import Sample, Ticket
from xoron_core.data.sources.local import FileSource
from xoron_core.training.precision import Precision
from xoron_core.training.process import main

ROW = 3
"""That rank 1 cannot read."""


def unreadable() -> None:
    """As when a process has no file handle left."""
    read = Preparation.sample

    def refuse(preparation: Preparation, modality: str, ticket: Ticket) -> Sample:
        if ticket.index == ROW:
            raise DataError(preparation.sources[ticket.source].name, ticket.index, "Too many open files")
        return read(preparation, modality, ticket)

    if os.environ["RANK"] == "1":
        Preparation.sample = refuse  # type: ignore[method-assign]


def other_files() -> None:
    """As when what is mounted on one host is older than on the other."""
    if os.environ["RANK"] == "1":
        FileSource.__len__ = lambda _: 5  # type: ignore[method-assign]


def scaled() -> None:
    """With a scaler of the loss, which only GPUs have as a rule."""

    def of(config: TrainingConfig, model: nn.Module, device: torch.device) -> Precision:
        return Precision(device, None, GradScaler("cpu", init_scale=2.0**10))

    Precision.of = staticmethod(of)  # type: ignore[method-assign,assignment]


ODDITIES: dict[str, Callable[[], None]] = {"unreadable": unreadable, "other files": other_files, "scaled": scaled}

if __name__ == "__main__":
    ODDITIES[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))

"""Errors of training that carry what their handler needs."""

from collections.abc import Sequence

from xoron_core.contract.errors import CheckpointError, NonFiniteError


class StepsNotFiniteError(NonFiniteError):
    """Too many steps in a row that were skipped: since which, and the samples at fault."""

    def __init__(self, message: str, since_step: int, samples: Sequence[str]) -> None:
        self.since_step = since_step
        self.samples = list(samples)
        super().__init__(message)


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is not as it was written."""


class AnotherModelError(CheckpointError):
    """A checkpoint that is whole, but of another model or optimizer than the one that is built."""

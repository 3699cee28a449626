"""What every modality declares."""

from typing import ClassVar, Literal

from pydantic import Field

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.config.section import Section


class MetricInfo(Section):
    """One metric, as pages and reports describe it."""

    name: str
    label: str
    unit: str = ""
    better: Literal["lower", "higher", "neither"] = "lower"


class ModalityInfo(Section):
    """One modality, as pages and reports describe it."""

    name: str
    label: str
    categories: tuple[str, ...]
    """Categories of sources that feed it."""
    metrics: tuple[MetricInfo, ...]
    """The first is its headline. Each is also evaluated, as `eval/<name>`, where it makes sense."""


class ModalityConfig(Section):
    """Options that every modality has."""

    info: ClassVar[ModalityInfo]

    weight: float | None = Field(None, ge=0)
    """Share of the micro-batches, relative to the others; 0: off; null: 1 where a source feeds it, else off."""
    loss_weight: float = Field(1.0, ge=0)
    """Factor of its loss in the objective."""
    batch_size: int | None = Field(None, ge=1)
    """Samples in a micro-batch; null: `training.batch_size`."""
    batch_tokens: int | None = Field(None, ge=1)
    """Most tokens in a micro-batch, padding included, which then decides how many samples it has; null: `batch_size`
    does."""
    max_per_epoch: int | None = Field(None, ge=1)
    """Most samples of this modality in an epoch; null: all that its sources have."""

    def check(self, model: XoronConfig) -> None:
        """See that an enabled modality and the model fit together.

        Raises: ValueError naming field, value and cure.
        """

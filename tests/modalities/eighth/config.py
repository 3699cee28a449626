"""The light half of a modality that only a test knows: words and their letters backwards."""

from typing import ClassVar

from xoron_core.contract.modalities.base import MetricInfo, ModalityConfig, ModalityInfo


class BackwardsConfig(ModalityConfig):
    """Spelling backwards."""

    info: ClassVar[ModalityInfo] = ModalityInfo(
        name="backwards",
        label="Spelling backwards",
        categories=("backwards",),
        metrics=(
            MetricInfo(name="backwards/loss", label="Cross-entropy", unit="nats/token"),
            MetricInfo(name="backwards/letters", label="Right letters", unit="share", better="higher"),
        ),
    )

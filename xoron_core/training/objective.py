"""The objective of one optimizer step: Σ_m w_m · (k_m / G) · (Σ sum_m) / (Σ count_m).

G micro-batches, k_m of them of modality m, w_m its loss weight. Sums and counts go over the window's micro-batches of a
modality, so that unequal micro-batches count as one large batch would, and G never changes the objective.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from xoron_core.modalities.base import Batch, LossTerms, Modality


class WindowObjective:
    """The factors of one accumulation window, known before its first forward pass."""

    def __init__(self, window: Sequence[Batch], modalities: Mapping[str, Modality[Any, Any]]) -> None:
        self.modalities = modalities
        self.num_batches = len(window)
        self.batches_of = Counter(batch.modality for batch in window)
        self.counts: dict[tuple[str, str], float] = defaultdict(float)
        for batch in window:
            for term, count in batch.counts.items():
                self.counts[batch.modality, term] += count

    def contribution(self, batch: Batch, terms: LossTerms) -> Tensor:
        """What one micro-batch adds to the objective; the window's contributions sum up to it."""
        modality = self.modalities[batch.modality]
        share = self.batches_of[batch.modality] / self.num_batches
        parts = [
            factor * terms[term][0] / max(self.counts[batch.modality, term], 1e-12)
            for term, factor in modality.objective.items()
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total * (modality.config.loss_weight * share)

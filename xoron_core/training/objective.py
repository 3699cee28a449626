"""The objective of one optimizer step: Σ_m w_m · (k_m / G) · (Σ sum_m) / (Σ count_m).

G micro-batches, k_m of them of modality m, w_m its loss weight. Sums and counts go over the window's micro-batches of a
modality, so that unequal micro-batches count as one large batch would, and G never changes the objective.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from xoron_core.distributed.ranks import Ranks
from xoron_core.modalities.base import Batch, LossTerms, Modality
from xoron_core.training.errors import RanksDifferError


def sum_counts(batch: Batch, ranks: Ranks) -> None:
    """Give a batch the counts that it has on all ranks together; each has followed the plan by itself to get there.

    Raises: RanksDifferError, on all ranks, when one of them got somewhere else.
    """
    place = (batch.sample_ids, batch.ends_epoch, batch.data_state)
    bad = [f"{row.source}[{row.index}]: {row.reason}" for row in batch.bad]
    shares = ranks.gather((place, bad, batch.counts, batch.num_tokens))
    for rank, (theirs, unreadable, _, _) in enumerate(shares):
        if theirs != shares[0][0]:
            raise RanksDifferError(
                f"ranks 0 and {rank} read different rows; unreadable were {', '.join(shares[0][1]) or 'none'} and "
                f"{', '.join(unreadable) or 'none'}; see that both can read all sources"
            )
    counts: dict[str, float] = defaultdict(float)
    for _, _, own, _ in shares:
        for term, count in own.items():
            counts[term] += count
    batch.counts = dict(counts)
    batch.num_tokens = sum(num_tokens for _, _, _, num_tokens in shares)


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

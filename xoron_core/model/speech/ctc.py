"""Connectionist temporal classification (Graves et al. 2006) over bytes, an auxiliary head of the audio encoder.

Shapes: B batch, F frames of 62.5 a second, D width, K classes: 256 bytes and the blank.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.model.speech.audio_encoder import AudioFeatures

NUM_BYTES = 256
BLANK = NUM_BYTES
"""The class of frames that say nothing new."""


class CtcHead(nn.Module):
    """Features → scores of bytes, so that it works for every language's UTF-8."""

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.score_proj = nn.Linear(feature_size, NUM_BYTES + 1)

    def forward(self, features_BFD: Tensor) -> Tensor:
        """Log-probabilities in fp32, [B, F, K]."""
        return F.log_softmax(self.score_proj(features_BFD).float(), dim=-1)

    def decode(self, features: AudioFeatures) -> list[bytes]:
        """The bytes along the likeliest path of each row: repeats merged, blanks dropped."""
        classes_BF = self(features.features_BFD).argmax(dim=-1)
        return [
            bytes(kind for kind in path[there].unique_consecutive().tolist() if kind != BLANK)
            for path, there in zip(classes_BF, features.mask_BF, strict=True)
        ]

    def loss_sum(self, features: AudioFeatures, targets_BC: Tensor, num_targets_B: Tensor) -> Tensor:
        """Σ over the batch of -log p(bytes); infinite for a row with more bytes (one more where two in a row are
        alike) than frames. `targets_BC` holds bytes at the left."""
        log_probs_BFK = self(features.features_BFD)
        num_frames_B = features.mask_BF.sum(dim=1)
        return F.ctc_loss(
            log_probs_BFK.transpose(0, 1), targets_BC, num_frames_B, num_targets_B, blank=BLANK, reduction="sum"
        )

"""Connectionist temporal classification (Graves et al. 2006) over bytes, an auxiliary head of the audio encoder.

Shapes: B batch, F frames of 62.5 a second, D width, K classes: 256 bytes and the blank.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.model.initialise import Initialised
from xoron_core.model.speech.audio_encoder import AudioFeatures

NUM_BYTES = 256
BLANK = NUM_BYTES
"""The class of frames that say nothing new."""
BLANK_SHARE = 0.6
"""Of the frames, at first."""
FREQUENT = " etaoinsrhldcumpfgywbvkxjqz"
PERCENT = (18, 10, 7.5, 6.5, 6.2, 5.8, 5.7, 5.3, 5, 4.9, 3.3, 3.1, 2.3, 2.3, 2, 1.6, 1.8, 1.6, 1.6, 1.7, 1.2, 0.8, 0.6,
           0.2, 0.1, 0.1, 0.1)  # fmt: skip
"""Letters and spaces of written English, in percent."""


class CtcHead(Initialised):
    """Features → scores of bytes, so that it works for every language's UTF-8."""

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.score_proj = nn.Linear(feature_size, NUM_BYTES + 1)

    def init_own(self, generator: torch.Generator) -> None:
        """Before it has heard anything it expects blanks and the letters of English as often as they are written, other
        bytes hardly ever: from even odds CTC takes several times as long until it says anything but blanks."""
        shares = torch.full((NUM_BYTES + 1,), 1e-5)
        shares[BLANK] = BLANK_SHARE
        for letter, percent in zip(FREQUENT, PERCENT, strict=True):
            shares[ord(letter)] = (1 - BLANK_SHARE) * percent / 100
        self.score_proj.bias.copy_(shares.log())

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
        alike) than frames. `targets_BC` holds bytes at the left. On a GPU torch fetches the lengths: a wait a step."""
        log_probs_BFK = self(features.features_BFD)
        num_frames_B = features.mask_BF.sum(dim=1)
        return F.ctc_loss(
            log_probs_BFK.transpose(0, 1), targets_BC, num_frames_B, num_targets_B, blank=BLANK, reduction="sum"
        )

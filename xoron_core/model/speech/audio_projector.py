"""From audio features to embeddings of the language model.

Shapes: B batch, F frames, M embeddings, S frames stacked, D width of the features, L width of the language model.
"""

import torch.nn.functional as F
from torch import nn

from xoron_core.contract.config.audio_encoder import SAMPLES_PER_TOKEN, AudioEncoderConfig
from xoron_core.model.layers.norms import RMSNorm
from xoron_core.model.media import MediaTokens
from xoron_core.model.speech.audio_encoder import AudioFeatures, samples_per_frame


def num_audio_tokens(num_samples: int) -> int:
    """Embeddings that a waveform of this many samples becomes."""
    return -(-num_samples // SAMPLES_PER_TOKEN)


class AudioProjector(nn.Module):
    """Neighbouring frames side by side (8, or 2 of a mel front end), then two linear layers and a norm.

    The embeddings start at unit scale, far larger than those of tokens: what was heard outweighs what the decoder's
    first layers add to it, and the decoder listens sooner.
    """

    def __init__(self, config: AudioEncoderConfig, output_size: int) -> None:
        super().__init__()
        self.num_stacked = SAMPLES_PER_TOKEN // samples_per_frame(config)
        self.up_proj = nn.Linear(self.num_stacked * config.hidden_size, config.projector.hidden_size)
        self.down_proj = nn.Linear(config.projector.hidden_size, output_size)
        self.norm = RMSNorm(output_size, eps=1e-6)

    def forward(self, features: AudioFeatures) -> MediaTokens:
        """[B, F, D] → [B, ceil(F / S), L]; frames that are not there count as zeros."""
        stacked_BMSD, mask_BMS = features.stacked(self.num_stacked)
        hidden_BMH = F.silu(self.up_proj(stacked_BMSD.flatten(2)))
        return MediaTokens(self.norm(self.down_proj(hidden_BMH)), mask_BMS.any(dim=2))

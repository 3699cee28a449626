"""A voice as a vector. Shapes: B clips, F frames, M mel bins, C channels, S width of the embedding."""

import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.contract.config.audio_decoder import SpeakerEncoderConfig
from xoron_core.model.speech.fft import MaskedConv
from xoron_core.model.speech.mel import N_MELS

KERNEL_SIZE = 5


class SpeakerEncoder(nn.Module):
    """Convolutions over a mel spectrogram, a GRU, the mean over its frames, a vector of length 1."""

    def __init__(self, config: SpeakerEncoderConfig) -> None:
        super().__init__()
        self.conv_1 = MaskedConv(N_MELS, config.conv_size, KERNEL_SIZE)
        self.norm_1 = nn.LayerNorm(config.conv_size)
        self.conv_2 = MaskedConv(config.conv_size, config.conv_size, KERNEL_SIZE)
        self.norm_2 = nn.LayerNorm(config.conv_size)
        self.gru = nn.GRU(config.conv_size, config.gru_size, batch_first=True)
        self.out_proj = nn.Linear(config.gru_size, config.embedding_size)

    def forward(self, mel_BFM: Tensor, mask_BF: Tensor) -> Tensor:
        """[B, F, M] → [B, S]; `mask_BF` is True within a clip, which begins at the left and has a frame at least."""
        x_BFC = self.norm_1(F.relu(self.conv_1(mel_BFM, mask_BF)))
        x_BFC = self.norm_2(F.relu(self.conv_2(x_BFC, mask_BF)))
        states_BFC, _ = self.gru(x_BFC)  # from left to right: what lies beyond the end reaches no frame of the clip
        weights_BF1 = mask_BF.unsqueeze(-1) / mask_BF.sum(1).view(-1, 1, 1)
        return F.normalize(self.out_proj((states_BFC * weights_BF1).sum(1)), dim=-1)

"""Which token a frame belongs to: distances between tokens and audio features, learned without labels.

Shapes: B samples, N tokens, F frames, D width of tokens, A width of audio features, M mel bins, E compared width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xoron_core.model.speech.alignment import forward_sum, log_prior
from xoron_core.model.speech.fft import MaskedConv

KERNEL_SIZE = 3


class Aligner(nn.Module):
    """Token likelihoods of every frame (arXiv 2108.10447): a softmax over negative squared distances, times a prior.

    A token is known by its neighbours alone. States that have seen the whole text know how far into it they are, and so
    do features of the whole sound: these would find one another by that, and every alignment would be a straight line.
    """

    def __init__(self, hidden_size: int, audio_size: int, num_mels: int, size: int) -> None:
        super().__init__()
        self.scale = 0.25 * size**-0.5
        self.token_conv = MaskedConv(hidden_size, size, KERNEL_SIZE)
        self.token_proj = nn.Linear(size, size)
        self.audio_norm = nn.LayerNorm(audio_size)
        self.audio_proj = nn.Linear(audio_size, size)
        self.mel_conv = MaskedConv(num_mels, size, KERNEL_SIZE)
        self.frame_proj = nn.Linear(size, size)

    def forward(
        self,
        text_BND: Tensor,
        token_mask_BN: Tensor,
        audio_BFA: Tensor,
        frame_mask_BF: Tensor,
        mel_BFM: Tensor | None,
    ) -> Tensor:
        """Log likelihoods of the tokens at every frame, [B, N, F], in fp32; the prior is in them."""
        tokens_BNE = self.token_proj(F.relu(self.token_conv(text_BND, token_mask_BN)))
        heard_BFE = self.audio_proj(self.audio_norm(audio_BFA))
        if mel_BFM is not None:
            heard_BFE = heard_BFE + self.mel_conv(mel_BFM, frame_mask_BF)
        frames_BFE = self.frame_proj(F.relu(heard_BFE))
        with torch.autocast(tokens_BNE.device.type, enabled=False):  # a small difference of large products
            tokens_BNE, frames_BFE = tokens_BNE.float(), frames_BFE.float()
            # |t - f|² without |f|², which a softmax over tokens does not see
            distance_BNF = tokens_BNE.square().sum(-1, keepdim=True) - 2 * tokens_BNE @ frames_BFE.transpose(1, 2)
        logits_BNF = (-self.scale * distance_BNF).masked_fill(~token_mask_BN.unsqueeze(-1), float("-inf"))
        prior_BNF = log_prior(token_mask_BN.sum(1), frame_mask_BF.sum(1), *logits_BNF.shape[1:])
        likelihood_BNF: Tensor = logits_BNF.log_softmax(1).masked_fill(~token_mask_BN.unsqueeze(-1), 0.0)
        return likelihood_BNF + prior_BNF

    @staticmethod
    def loss(log_likelihood_BNF: Tensor, token_mask_BN: Tensor, frame_mask_BF: Tensor) -> Tensor:
        """Negative log likelihood of the sound under all monotonic alignments, per frame, [B]."""
        num_frames_B = frame_mask_BF.sum(1)
        return -forward_sum(log_likelihood_BNF, token_mask_BN.sum(1), num_frames_B) / num_frames_B

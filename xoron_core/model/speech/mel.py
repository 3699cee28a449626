"""Log-mel spectrograms at 16 kHz: what speech synthesis predicts and what speaker and audio encoders may read.

Shapes: B batch, T samples, F frames, M mel bins.
"""

import functools

import torch
import torch.nn.functional as F
import torchaudio.functional as audio
from torch import Tensor

SAMPLE_RATE = 16_000
N_FFT = 1024
HOP = 256
"""Samples of a frame: 62.5 frames a second."""
N_MELS = 80
FLOOR = 1e-5
"""Magnitudes below this are silence."""
LOG_MEAN, LOG_STD = -8.0, 2.0
"""Of the log magnitudes of recorded speech at full scale, pauses included. Constants, so that one waveform has one
spectrogram in every run; silence is -1.8, a loud vowel about 2."""


def num_frames(num_samples: int) -> int:
    """Frames of a waveform of this many samples: one for each hop begun."""
    return -(-num_samples // HOP)


def compute_mel_spectrogram(waveform_BT: Tensor) -> Tensor:
    """Waveforms in [-1, 1] → normalised log-mel magnitudes of about unit scale, [B, ceil(T / 256), 80], in fp32.

    Frame f is centred on the samples [256·f, 256·(f + 1)), with zeros beyond both ends (no reflection): zeros that are
    appended to a waveform leave its own ceil(T / 256) frames as they are.
    """
    with torch.autocast(waveform_BT.device.type, enabled=False):
        samples = waveform_BT.shape[1]
        side = (N_FFT - HOP) // 2
        padded_BT = F.pad(waveform_BT.float(), (side, side + num_frames(samples) * HOP - samples))
        window, filters_KM = _window_and_filters(waveform_BT.device)
        spectrum_BKF = torch.stft(padded_BT, N_FFT, HOP, window=window, center=False, return_complex=True)
        mel_BFM = spectrum_BKF.abs().transpose(1, 2) @ filters_KM
        return (mel_BFM.clamp(min=FLOOR).log() - LOG_MEAN) / LOG_STD


@functools.lru_cache(maxsize=8)
def _window_and_filters(device: torch.device) -> tuple[Tensor, Tensor]:
    """Hann window scaled to sum 1 (magnitudes are amplitudes), and triangular filters on Slaney's mel scale, [K, M]."""
    with torch.inference_mode(mode=False):  # made during evaluation, it must serve training, too
        window = torch.hann_window(N_FFT)
        filters_KM = audio.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, norm=None, mel_scale="slaney"
        )
        return (window / window.sum()).to(device), (filters_KM / filters_KM.sum(0)).to(device)

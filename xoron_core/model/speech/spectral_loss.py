"""How far two waveforms' spectra are apart. Shapes: B samples, T steps, K frequencies, F frames."""

import torch
from torch import Tensor

RESOLUTIONS = (512, 1024, 2048)
"""Window lengths; hops are a quarter."""
FLOOR = 1e-4
"""Amplitudes below this count as silence."""


def spectral_distance(predicted_BT: Tensor, target_BT: Tensor) -> Tensor:
    """Multi-resolution STFT loss (arXiv 1910.11480), [B], in fp32: at each resolution spectral convergence (the norm of
    the difference over that of the target) and the mean absolute difference of log amplitudes; the mean of all."""
    with torch.autocast(predicted_BT.device.type, enabled=False):
        distances = []
        for n_fft in RESOLUTIONS:
            predicted_BKF, target_BKF = (_amplitudes(x_BT.float(), n_fft) for x_BT in (predicted_BT, target_BT))
            difference_B = (predicted_BKF - target_BKF).flatten(1).norm(dim=1)
            convergence_B = difference_B / target_BKF.flatten(1).norm(dim=1).clamp(min=FLOOR * n_fft)
            log_difference_B = (predicted_BKF.log() - target_BKF.log()).abs().flatten(1).mean(1)
            distances.append(convergence_B + log_difference_B)
        return torch.stack(distances).mean(0)


def _amplitudes(x_BT: Tensor, n_fft: int) -> Tensor:
    """[B, K, F], as amplitudes of sines, never zero: the gradient of the root is defined everywhere."""
    window = torch.hann_window(n_fft, device=x_BT.device)
    spectrum_BKF = torch.stft(x_BT, n_fft, n_fft // 4, window=window / window.sum(), return_complex=True)
    return (torch.view_as_real(spectrum_BKF).square().sum(-1) + FLOOR**2).sqrt()

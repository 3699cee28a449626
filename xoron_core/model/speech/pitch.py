"""Fundamental frequency by autocorrelation. Shapes: T samples, F frames, L lags."""

import numpy as np
import numpy.typing as npt

from xoron_core.model.speech.mel import HOP, SAMPLE_RATE, num_frames

DECIMATION = 2
"""Pairs of samples are averaged: voices need no more than 8 kHz here, and half the samples cost half the time."""
RATE = SAMPLE_RATE // DECIMATION
WINDOW = 320
"""Samples at 8 kHz that are correlated with as many later ones: 40 ms, two periods of a deep voice."""
LAGS = RATE // 400, RATE // 65
"""Periods of 400 Hz and of 65 Hz."""
MIN_CORRELATION = 0.6
"""Of a voiced frame with itself a period later."""
MIN_LOUDNESS = 2e-3
"""Root mean square below which nothing is voiced."""
EARLY_PEAK = 0.9
"""The first peak that comes this near to the highest is the period; the later ones are its multiples."""
LOG_MEAN, LOG_STD = 5.1, 0.4
"""Of log F0 in hertz: about 165 Hz, between men and women. Constants, as those of the spectrogram are."""


def track_pitch(waveform_T: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Normalised log F0 and voicing (1 or 0) of every mel frame of a 16 kHz waveform, [F] each; where nothing is voiced
    the pitch is 0. A normalised cross-correlation with parabolic interpolation, about 2 ms for 3 seconds."""
    frames = num_frames(len(waveform_T))
    first, last = LAGS
    hop, span = HOP // DECIMATION, WINDOW + last + 1
    padded_T = np.zeros(frames * HOP + DECIMATION * span, dtype=np.float32)
    begin = DECIMATION * (span - hop) // 2
    padded_T[begin : begin + len(waveform_T)] = waveform_T
    halved_T = 0.5 * (padded_T[::2] + padded_T[1::2])
    spans_FT = np.lib.stride_tricks.sliding_window_view(halved_T, span)[::hop][:frames]
    correlation_FL = _normalised_correlation(spans_FT, last + 2)
    found_FL = correlation_FL[:, first : last + 1]
    is_peak_FL = found_FL >= np.maximum(correlation_FL[:, first - 1 : last], correlation_FL[:, first + 1 : last + 2])
    peaks_FL = np.where(is_peak_FL, found_FL, -1.0)
    highest_F = peaks_FL.max(1)
    lag_F = first + (peaks_FL >= EARLY_PEAK * highest_F[:, None]).argmax(1)
    rows = np.arange(frames)
    before_F, at_F, after_F = (correlation_FL[rows, lag_F + offset] for offset in (-1, 0, 1))
    curve_F = np.minimum(before_F - 2 * at_F + after_F, -1e-6)
    period_F = lag_F + np.clip(0.5 * (before_F - after_F) / curve_F, -0.5, 0.5)
    loudness_F = np.sqrt(np.square(spans_FT[:, :WINDOW]).mean(1))
    voiced_F = (highest_F >= MIN_CORRELATION) & (loudness_F >= MIN_LOUDNESS)
    pitch_F = np.where(voiced_F, (np.log(RATE / period_F) - LOG_MEAN) / LOG_STD, 0.0)
    return pitch_F.astype(np.float32), voiced_F.astype(np.float32)


def _normalised_correlation(spans_FT: npt.NDArray[np.float32], num_lags: int) -> npt.NDArray[np.float32]:
    """Correlation of each span's first WINDOW samples with those `lag` later, over both norms, [F, L]."""
    size = 512  # lags of 0 to 192 come out of it unwrapped: 320 + 192
    spectrum = np.fft.rfft(spans_FT, size, axis=1)
    products_FL = np.fft.irfft(spectrum * np.fft.rfft(spans_FT[:, :WINDOW], size, axis=1).conj(), size, axis=1)
    squares = np.cumsum(np.square(spans_FT, dtype=np.float64), axis=1)
    squares = np.concatenate((np.zeros((len(spans_FT), 1)), squares), axis=1)
    energy_FL = squares[:, WINDOW : WINDOW + num_lags] - squares[:, :num_lags]
    norms_FL = np.sqrt(np.maximum(energy_FL[:, :1] * energy_FL, 1e-12))
    correlation: npt.NDArray[np.float32] = (products_FL[:, :num_lags] / norms_FL).astype(np.float32)
    return correlation

"""Log-mel spectrograms: frames, padding, where energy lies."""

import math

import pytest
import torch
from support.small_models import seeded

from xoron_core.model.speech.mel import HOP, N_MELS, SAMPLE_RATE, compute_mel_spectrogram, num_frames


def tone(hertz: float, num_samples: int = SAMPLE_RATE) -> torch.Tensor:
    return 0.3 * torch.sin(torch.arange(num_samples) * (2 * math.pi * hertz / SAMPLE_RATE)).unsqueeze(0)


@pytest.mark.parametrize("num_samples", [1, 255, 256, 257, 5000])
def test_zeros_appended_leave_a_waveforms_own_frames_as_they_are(num_samples: int) -> None:
    waveform = torch.randn(2, num_samples, generator=seeded())
    alone = compute_mel_spectrogram(waveform)
    padded = compute_mel_spectrogram(torch.nn.functional.pad(waveform, (0, 3 * HOP + 7)))
    assert alone.shape == (2, math.ceil(num_samples / HOP), N_MELS)
    assert alone.shape[1] == num_frames(num_samples)
    torch.testing.assert_close(padded[:, : alone.shape[1]], alone, rtol=0, atol=1e-6)


def test_a_frame_stands_where_its_samples_are() -> None:
    waveform = torch.zeros(1, 20 * HOP)
    waveform[0, 10 * HOP + HOP // 2] = 1.0
    loudness = compute_mel_spectrogram(waveform)[0].mean(dim=1)
    assert loudness.argmax() == 10
    torch.testing.assert_close(loudness[9], loudness[11])


def test_higher_tones_lie_in_higher_bins() -> None:
    peaks = [int(compute_mel_spectrogram(tone(hertz))[0, 30].argmax()) for hertz in (150, 400, 1000, 3000, 7000)]
    assert peaks == sorted(set(peaks))


def test_values_are_about_unit_scale_and_twice_the_amplitude_is_a_constant_more() -> None:
    quiet, loud = (compute_mel_spectrogram(scale * tone(300))[0, 30].max() for scale in (1, 2))
    torch.testing.assert_close(loud - quiet, torch.tensor(math.log(2) / 2), rtol=1e-3, atol=0)
    assert 1 < quiet < 4
    assert (compute_mel_spectrogram(torch.zeros(1, 512)) < -1).all()


def test_made_in_inference_mode_first_it_still_has_gradients_later() -> None:
    with torch.inference_mode():
        compute_mel_spectrogram(tone(100))
    waveform = tone(200).requires_grad_()
    compute_mel_spectrogram(waveform).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()

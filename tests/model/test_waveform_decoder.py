"""Mel to waveform, and how far two waveforms are apart."""

import math
from typing import Any

import pytest
import torch
from support.small_models import perturb, seeded

from xoron_core.contract.config.waveform_decoder import WaveformDecoderConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.speech.spectral_loss import spectral_distance
from xoron_core.model.speech.waveform_decoder import Snake, WaveformDecoder


def make_decoder(**changes: Any) -> WaveformDecoder:
    config = WaveformDecoderConfig(**({"hidden_size": 32, "kernel_sizes": (3, 7), "dilations": (1, 3)} | changes))
    decoder = WaveformDecoder(config)
    init_module(decoder, seeded())
    return decoder


def tone(hertz: float, amplitude: float = 0.3, samples: int = 8192) -> torch.Tensor:
    return amplitude * torch.sin(torch.arange(samples) * (2 * math.pi * hertz / 16_000)).unsqueeze(0)


@pytest.mark.parametrize("rates", [(8, 8, 2, 2), (4, 4, 4, 4), (16, 16)])
def test_a_frame_becomes_256_samples(rates: tuple[int, ...]) -> None:
    decoder = make_decoder(upsample_rates=rates)
    waveform = decoder(torch.randn(2, 80, 5, generator=seeded()))
    assert waveform.shape == (2, 5 * 256)
    assert waveform.abs().max() <= 1


def test_a_frame_is_heard_where_it_stands() -> None:
    decoder = make_decoder()
    mel = torch.randn(1, 80, 40, generator=seeded())
    changed = mel.clone()
    changed[..., 20] += 1
    with torch.no_grad():
        difference = (decoder(changed) - decoder(mel)).abs()[0].unflatten(0, (40, 256)).sum(1)
    middle = float((difference * torch.arange(40)).sum() / difference.sum())
    assert 19 < middle < 21
    assert difference[:10].sum() == difference[31:].sum() == 0


def test_every_parameter_gets_a_gradient() -> None:
    decoder = make_decoder()
    perturb(decoder)
    decoder(torch.randn(1, 80, 4, generator=seeded())).square().sum().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_recomputed_activations_give_the_same_gradients() -> None:
    mel = torch.randn(1, 80, 4, generator=seeded())
    found = []
    for enabled in (False, True):
        decoder = make_decoder()
        decoder.gradient_checkpointing_enable(enabled)
        decoder(mel).square().sum().backward()
        found.append({name: p.grad for name, p in decoder.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


def test_snake_is_its_formula() -> None:
    snake = Snake(2)
    with torch.no_grad():
        snake.log_alpha_C1.copy_(torch.tensor([[0.0], [math.log(3.0)]]))
        snake.log_beta_C1.copy_(torch.tensor([[0.0], [math.log(2.0)]]))
    x = torch.randn(1, 2, 9, generator=seeded())
    expected = torch.stack([x[:, 0] + x[:, 0].sin() ** 2, x[:, 1] + (3 * x[:, 1]).sin() ** 2 / 2], dim=1)
    torch.testing.assert_close(snake(x), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsample_rates": (8, 8, 2)}, "product is 256"),
        ({"upsample_rates": (256, 1)}, "even numbers"),
        ({"hidden_size": 24}, "multiple of 16"),
        ({"kernel_sizes": (4,)}, "odd numbers"),
        ({"dilations": ()}, "one at least"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveformDecoderConfig(**changes)


def test_the_spectral_distance_hears_pitch_and_loudness_but_no_phase() -> None:
    target = tone(440)
    assert spectral_distance(target, target) == 0
    shifted = 0.3 * torch.cos(torch.arange(8192) * (2 * math.pi * 440 / 16_000)).unsqueeze(0)
    louder, higher, silent = tone(440, 0.6), tone(880), torch.zeros_like(target)
    distances = [float(spectral_distance(x, target)) for x in (shifted, louder, higher, silent)]
    assert 2 * distances[0] < distances[1] < distances[2]
    assert distances[3] > 1


def test_the_spectral_distance_is_a_number_and_has_gradients_for_silence() -> None:
    predicted = torch.zeros(2, 8192, requires_grad=True)
    target = torch.cat((tone(300), torch.zeros(1, 8192)))
    distance = spectral_distance(predicted, target)
    assert distance.isfinite().all()
    assert distance[1] == 0
    distance.sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()

"""The small KL autoencoder."""

import dataclasses
import json

import pytest
import torch
from support.small_models import seeded, small_autoencoder

from xoron_core.model.autoencoder import Autoencoder, AutoencoderConfig
from xoron_core.model.initialise import init_module


def make_autoencoder() -> Autoencoder:
    autoencoder = Autoencoder(small_autoencoder())
    init_module(autoencoder, seeded())
    return autoencoder.requires_grad_(requires_grad=False)


def test_sides_shrink_by_eight_and_grow_back() -> None:
    autoencoder = make_autoencoder()
    images = torch.rand(2, 3, 32, 48, generator=seeded()) * 2 - 1
    posterior = autoencoder.encode(images)
    assert posterior.mean_BCHW.shape == posterior.logvar_BCHW.shape == (2, 4, 4, 6)
    assert autoencoder.decode(posterior.mean_BCHW).shape == images.shape
    with pytest.raises(ValueError, match="multiples of 8"):
        autoencoder.encode(images[..., :30])


def test_statistics_make_unit_variance_and_are_undone_by_decoding() -> None:
    autoencoder = make_autoencoder()
    images = torch.rand(8, 3, 32, 32, generator=seeded()) * 2 - 1
    mean = autoencoder.encode(images).mean_BCHW
    autoencoder.latent_mean_C.copy_(mean.mean(dim=(0, 2, 3)))
    autoencoder.latent_std_C.copy_(mean.std(dim=(0, 2, 3)))
    scaled = autoencoder.encode_scaled(images)
    torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(4))
    torch.testing.assert_close(autoencoder.decode_scaled(scaled), autoencoder.decode(mean), rtol=1e-4, atol=1e-5)


def test_noise_draws_from_the_posterior() -> None:
    autoencoder = make_autoencoder()
    images = torch.rand(1, 3, 16, 16, generator=seeded()) * 2 - 1
    posterior = autoencoder.encode(images)
    noise = torch.randn(1, 4, 2, 2, generator=seeded(1))
    drawn = autoencoder.encode_scaled(images, noise)
    torch.testing.assert_close(drawn, posterior.mean_BCHW + posterior.logvar_BCHW.exp().sqrt() * noise)


def test_the_shipped_size_fits_two_megabytes_in_half_precision() -> None:
    with torch.device("meta"):
        autoencoder = Autoencoder()
    assert sum(value.numel() * 2 for value in autoencoder.state_dict().values()) < 2_000_000


def test_sizes_survive_json() -> None:
    config = small_autoencoder()
    assert AutoencoderConfig.from_json(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(TypeError, match="blocks"):
        AutoencoderConfig.from_json({"blocks": 3})


def test_it_learns_to_give_pictures_back() -> None:
    torch.manual_seed(0)
    autoencoder = make_autoencoder().requires_grad_()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=5e-3)
    images = torch.rand(4, 3, 2, 2, generator=seeded(2)).repeat_interleave(8, 2).repeat_interleave(8, 3) * 2 - 1
    for _ in range(60):
        loss = (autoencoder.decode(autoencoder.encode(images).mean_BCHW) - images).abs().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.15

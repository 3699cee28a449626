"""The diffusion transformer and the flow around it."""

import pytest
import torch
from support.small_models import make_xoron, perturb, seeded, xoron_config

from xoron_core.model.flow import flow_target, guided_velocity, integrate, interpolate, sample_flow
from xoron_core.model.flow_transformer import patchify, unpatchify
from xoron_core.model.image_generator import ImageGenerator
from xoron_core.model.initialise import init_module


def make_generator(*, perturbed: bool = True) -> ImageGenerator:
    generator = ImageGenerator(xoron_config().image_generator, prompt_size=24)
    init_module(generator, seeded())
    if perturbed:
        perturb(generator)
    return generator


def batch(size: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.ones(size, 5, dtype=torch.bool)
    mask[0, 3:] = False
    return (
        torch.randn(size, 4, 4, 6, generator=seeded(1)),
        torch.rand(size, generator=seeded(2)),
        torch.randn(size, 5, 24, generator=seeded(3)),
        mask,
    )


def test_the_first_prediction_is_zero() -> None:
    assert make_generator(perturbed=False)(*batch()).abs().max() == 0


def test_every_parameter_gets_a_gradient() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    drop = torch.tensor([False, True])
    generator.predict(latents, t, states, mask, drop).velocity.square().sum().backward()
    silent = [name for name, p in generator.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


def test_patches_go_there_and_back() -> None:
    x = torch.randn(2, 4, 4, 6, generator=seeded())
    patches = patchify(x, 2)
    assert patches.shape == (2, 6, 16)
    assert torch.equal(unpatchify(patches, 2, 4, 6), x)
    assert torch.equal(patches[0, 4].view(4, 2, 2), x[0, :, 2:4, 2:4]), "row order"


def test_masked_prompt_tokens_are_not_read_and_others_are() -> None:
    generator = make_generator().eval()
    latents, t, states, mask = batch()
    before = generator(latents, t, states, mask)
    hidden = states.clone()
    hidden[0, 3:] += 10
    torch.testing.assert_close(generator(latents, t, hidden, mask), before)
    seen = states.clone()
    seen[0, 2] += 1
    after = generator(latents, t, seen, mask)
    assert not torch.allclose(after[0], before[0], atol=1e-3)
    torch.testing.assert_close(after[1], before[1])


def test_time_and_place_matter() -> None:
    generator = make_generator().eval()
    latents, t, states, mask = batch()
    before = generator(latents, t, states, mask)
    assert not torch.allclose(generator(latents, 1 - t, states, mask), before, atol=1e-3)
    flipped = generator(latents.flip(3), t, states, mask).flip(3)
    assert not torch.allclose(flipped, before, atol=1e-3)


def test_a_dropped_prompt_is_the_null_prompt() -> None:
    generator = make_generator().eval()
    latents, t, states, mask = batch()
    dropped = generator.predict(latents, t, states, mask, torch.tensor([True, True])).velocity
    other = generator.predict(latents, t, states + 3, ~mask, torch.tensor([True, True])).velocity
    empty = generator(latents, t, states, torch.zeros_like(mask))
    torch.testing.assert_close(dropped, other)
    torch.testing.assert_close(dropped, empty)
    assert torch.isfinite(dropped).all()
    assert not torch.allclose(dropped, generator(latents, t, states, mask), atol=1e-3)


def test_latents_that_patches_do_not_fill_are_refused() -> None:
    _, t, states, mask = batch()
    with pytest.raises(ValueError, match="multiple of 16"):
        make_generator()(torch.zeros(2, 4, 3, 4), t, states, mask)


def test_guidance_extrapolates_from_null_to_prompt() -> None:
    generator = make_generator().eval()
    latents, t, states, mask = batch()
    with torch.no_grad():
        prompted = generator(latents, t, states, mask)
        null = generator.predict(latents, t, states, mask, torch.tensor([True, True])).velocity
        for scale in (0.0, 1.0, 3.0):
            guided = guided_velocity(generator, states, mask, scale)(latents, t)
            torch.testing.assert_close(guided, null + scale * (prompted - null), rtol=1e-4, atol=1e-5)


def test_exact_velocity_leads_back_to_the_data() -> None:
    data, noise = torch.randn(2, 3, 4, 4, 4, generator=seeded()).unbind()
    got = integrate(lambda x, t: (x - data) / t.view(-1, 1, 1, 1), noise, steps=10)
    torch.testing.assert_close(got, data, rtol=1e-4, atol=1e-5)
    straight = integrate(lambda _x, _t: flow_target(data, noise), noise, steps=1)
    torch.testing.assert_close(straight, data)


def test_the_path_starts_at_data_and_ends_at_noise() -> None:
    data, noise = torch.randn(2, 3, 4, 2, 2, generator=seeded()).unbind()
    got = interpolate(data, noise, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(got[0], data[0])
    assert torch.equal(got[1], noise[1])
    torch.testing.assert_close(got[2], 0.75 * data[2] + 0.25 * noise[2])


def test_samples_follow_their_seed() -> None:
    model = make_xoron().eval()
    perturb(model.generator)
    ids = torch.randint(200, (2, 5), generator=seeded(1))
    mask = torch.ones(2, 5, dtype=torch.bool)
    states = model.encode_text(ids, mask).detach()

    def sample(seed: int) -> torch.Tensor:
        return sample_flow(
            model.generator, states, mask, latent_shape=(4, 4, 4), steps=3, guidance_scale=2.0, generator=seeded(seed)
        )

    first = sample(1)
    assert first.shape == (2, 4, 4, 4)
    assert torch.equal(first, sample(1))
    assert not torch.equal(first, sample(2))
    assert model.decode_images(first).shape == (2, 3, 32, 32)

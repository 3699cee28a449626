"""The space-time diffusion transformer: what a frame may depend on, and what it must."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support.small_models import make_xoron, perturb, seeded, xoron_config

from xoron_core.contract.config.generators import VideoGeneratorConfig
from xoron_core.contract.config.moe import MoeConfig
from xoron_core.model.flow import frame_times, guided_velocity, hold_first_frame, interpolate, sample_flow
from xoron_core.model.flow_transformer import FlowTransformer
from xoron_core.model.image_generator import ImageGenerator
from xoron_core.model.initialise import init_module
from xoron_core.model.layers.space_time import (
    CausalTimeAttention,
    over_time,
    space_time_rotary,
    with_past,
    within_frames,
)
from xoron_core.model.video_generator import VideoGenerator

FRAMES = 4


def small_config(**changes: Any) -> VideoGeneratorConfig:
    moe = MoeConfig(num_experts=4, top_k=2, expert_size=24)
    return VideoGeneratorConfig(**({"hidden_size": 32, "num_layers": 2, "num_heads": 4, "moe": moe} | changes))


def make_generator(*, perturbed: bool = True) -> VideoGenerator:
    generator = VideoGenerator(small_config(), prompt_size=24)
    init_module(generator, seeded())
    if perturbed:
        perturb(generator)
    return generator.eval()


def batch(size: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.ones(size, 5, dtype=torch.bool)
    mask[0, 3:] = False
    return (
        torch.randn(size, FRAMES, 4, 4, 6, generator=seeded(1)),
        torch.rand(size, generator=seeded(2)),
        torch.randn(size, 5, 24, generator=seeded(3)),
        mask,
    )


def test_the_first_prediction_is_zero() -> None:
    velocity = make_generator(perturbed=False)(*batch())
    assert velocity.shape == (2, FRAMES, 4, 4, 6)
    assert velocity.abs().max() == 0


def test_every_parameter_gets_a_gradient() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    drop = torch.tensor([False, True])
    generator.predict(latents, t, states, mask, drop).velocity.square().sum().backward()
    silent = [name for name, p in generator.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


@pytest.mark.parametrize("changed", range(FRAMES))
@torch.no_grad()
def test_a_frame_depends_on_itself_and_earlier_frames_only(changed: int) -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    t_BT = t.unsqueeze(1).repeat(1, FRAMES)
    before = generator(latents, t_BT, states, mask)
    latents[:, changed] += torch.randn(latents[:, changed].shape, generator=seeded(7))
    t_BT[:, changed] = 1 - t_BT[:, changed]
    after = generator(latents, t_BT, states, mask)
    torch.testing.assert_close(after[:, :changed], before[:, :changed])
    for later in range(changed, FRAMES):
        assert (after[:, later] - before[:, later]).abs().max() > 1e-3, f"frame {later} does not see frame {changed}"


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    whole = generator(latents, t, states, mask)
    for row in range(2):
        part = slice(row, row + 1)
        torch.testing.assert_close(generator(latents[part], t[part], states[part], mask[part]), whole[part])


@torch.no_grad()
def test_order_and_place_matter() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    latents[:] = latents[:, :1]  # a clip that stands still
    latents[:, 1] += 1
    early = generator(latents, t, states, mask)[:, 3]
    late = generator(latents[:, [0, 2, 1, 3]], t, states, mask)[:, 3]
    assert (early - late).abs().max() > 1e-3, "when something was seen makes no difference"
    flipped = generator(latents.flip(4), t, states, mask).flip(4)
    assert (flipped - generator(latents, t, states, mask)).abs().max() > 1e-3


@torch.no_grad()
def test_a_time_for_all_frames_is_the_same_time_for_each() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    one = generator(latents, t, states, mask)
    assert torch.equal(generator(latents, t.unsqueeze(1).repeat(1, FRAMES), states, mask), one)
    assert not torch.allclose(generator(latents, 1 - t, states, mask), one, atol=1e-3)


@torch.no_grad()
def test_masked_prompt_tokens_are_not_read_and_others_are() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    before = generator(latents, t, states, mask)
    hidden = states.clone()
    hidden[0, 3:] += 10
    torch.testing.assert_close(generator(latents, t, hidden, mask), before)
    states[0, 2] += 1
    after = generator(latents, t, states, mask)
    assert ((after[0] - before[0]).abs().amax(dim=(1, 2, 3)) > 1e-3).all(), "a frame does not read the prompt"
    torch.testing.assert_close(after[1], before[1])


@torch.no_grad()
def test_a_dropped_prompt_is_the_null_prompt() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    drop = torch.tensor([True, True])
    dropped = generator.predict(latents, t, states, mask, drop).velocity
    torch.testing.assert_close(generator.predict(latents, t, states + 3, ~mask, drop).velocity, dropped)
    assert not torch.allclose(generator(latents, t, states, mask), dropped, atol=1e-3)


def test_latents_that_patches_do_not_fill_are_refused() -> None:
    _, t, states, mask = batch()
    with pytest.raises(ValueError, match="multiple of 16"):
        make_generator()(torch.zeros(2, FRAMES, 4, 3, 4), t, states, mask)


@pytest.mark.parametrize(
    "generator",
    [make_generator(), ImageGenerator(xoron_config().image_generator, prompt_size=24)],
    ids=lambda g: type(g).__name__,
)
def test_checkpointing_recomputes_each_block_and_counts_its_load_once(generator: FlowTransformer) -> None:
    init_module(generator, seeded())
    perturb(generator)
    latents, t, states, mask = batch()
    latents = latents if isinstance(generator, VideoGenerator) else latents[:, 0]
    passes: list[bool] = []
    for block in generator.blocks:
        block.register_forward_pre_hook(lambda *_: passes.append(generator.gradient_checkpointing))
    gradients = []
    for enabled in (False, True):
        generator.train().gradient_checkpointing_enable(enabled)
        generator.zero_grad()
        generator(latents, t, states, mask).square().sum().backward()
        gradients.append(generator.patch_proj.weight.grad.clone())
    assert (passes.count(False), passes.count(True)) == (2, 4)
    torch.testing.assert_close(gradients[1], gradients[0])
    tokens = latents.numel() // (4 * 2 * 2)
    for block in generator.blocks:
        assert block.experts.router.load_E.sum() == 2 * tokens * 2  # type: ignore[union-attr]


def test_rows_over_time_go_there_and_back() -> None:
    x = torch.randn(2 * FRAMES, 6, 3, generator=seeded())
    rows = over_time(x, FRAMES)
    assert rows.shape == (12, FRAMES, 3)
    assert torch.equal(rows[6 + 2, 1], x[FRAMES + 1, 2]), "clip 1, place 2, frame 1"
    assert torch.equal(within_frames(rows, 6), x)


@torch.no_grad()
def test_attention_over_time_sees_when_something_was_seen() -> None:
    attention = CausalTimeAttention(32, num_heads=4)
    init_module(attention, seeded())
    rotary = space_time_rotary(1, FRAMES, 2, 3, 8, torch.device("cpu")).time
    x = torch.randn(FRAMES, 6, 32, generator=seeded(1))
    swapped = attention(x[[0, 2, 1, 3]], FRAMES, rotary)
    assert (swapped[3] - attention(x, FRAMES, rotary)[3]).abs().max() > 1e-3


def test_both_layouts_of_the_angles_tell_the_same() -> None:
    rotary = space_time_rotary(2, FRAMES, 2, 3, 8, torch.device("cpu"))
    for space, time in zip(rotary.space, rotary.time, strict=True):
        assert space.shape == (2 * FRAMES, 6, 4)
        assert torch.equal(over_time(space, FRAMES), time)


def test_the_routers_past_is_the_mean_up_to_the_own_frame() -> None:
    x = torch.randn(2 * FRAMES, 6, 3, generator=seeded())
    seen = with_past(x, FRAMES).view(2, FRAMES, 6, 3)
    clips = x.view(2, FRAMES, 6, 3)
    for frame in range(FRAMES):
        expected = clips[:, frame] + clips[:, : frame + 1].mean(dim=1)
        torch.testing.assert_close(seen[:, frame], expected)


def test_a_given_first_frame_is_clean_and_stays() -> None:
    times = frame_times(torch.tensor([0.5, 0.7]), 3, torch.tensor([True, False]))
    torch.testing.assert_close(times, torch.tensor([[0.0, 0.5, 0.5], [0.7, 0.7, 0.7]]))
    data, noise = torch.randn(2, 2, 3, 4, 2, 2, generator=seeded()).unbind()
    noisy = interpolate(data, noise, times)
    assert torch.equal(noisy[0, 0], data[0, 0])
    torch.testing.assert_close(noisy[0, 1], 0.5 * data[0, 1] + 0.5 * noise[0, 1])
    torch.testing.assert_close(noisy[1, 0], 0.3 * data[1, 0] + 0.7 * noise[1, 0])


@torch.no_grad()
def test_a_sample_begins_with_the_frame_that_is_given_and_follows_it() -> None:
    generator = make_generator()
    _, _, states, mask = batch()

    def sample(first: torch.Tensor | None, guidance_scale: float = 2.0) -> torch.Tensor:
        return sample_flow(
            generator,
            states,
            mask,
            latent_shape=(FRAMES, 4, 4, 4),
            steps=3,
            guidance_scale=guidance_scale,
            generator=seeded(1),
            first_frame_BCHW=first,
        )

    first = torch.randn(2, 4, 4, 4, generator=seeded(2))
    made = sample(first)
    assert torch.equal(made[:, 0], first)
    assert not torch.allclose(sample(first + 1)[:, 3], made[:, 3], atol=1e-3)
    assert torch.equal(sample(first), made)
    assert not torch.allclose(sample(None)[:, 3], made[:, 3], atol=1e-3)


@torch.no_grad()
def test_the_held_frame_has_time_zero_under_guidance() -> None:
    generator = make_generator()
    latents, t, states, mask = batch()
    held = hold_first_frame(guided_velocity(generator, states, mask, 1.0))(latents, t)
    times = frame_times(t, FRAMES, torch.tensor([True, True]))
    torch.testing.assert_close(held[:, 1:], generator(latents, times, states, mask)[:, 1:])
    assert held[:, 0].abs().max() == 0


def test_clips_are_encoded_and_decoded_frame_by_frame() -> None:
    model = make_xoron(components=frozenset({"autoencoder"}))
    clips = torch.rand(2, 3, 3, 16, 16, generator=seeded()) * 2 - 1
    noise = torch.randn(2, 3, 4, 2, 2, generator=seeded(1))
    latents = model.encode_videos(clips, noise)
    torch.testing.assert_close(latents[:, 1], model.encode_images(clips[:, 1], noise[:, 1]))
    torch.testing.assert_close(model.decode_videos(latents)[1, 2], model.decode_images(latents[1, 2:])[0])
    torch.testing.assert_close(model.encode_videos(clips)[0], model.encode_images(clips[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_size": 36}, "multiple of 2 × num_heads 4"), ({"hidden_size": 16}, "less than 6 × num_heads 4")],
)
def test_heads_that_cannot_hold_three_axes_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small_config(**changes)

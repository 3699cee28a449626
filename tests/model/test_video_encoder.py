"""The video encoder: who sees whom, in space and in time."""

from typing import Any

import pytest
import torch
from support.small_models import perturb, seeded
from torch import Tensor

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.video_encoder import VideoEncoderConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.layers.rope import grid_rotary_3d
from xoron_core.model.vision.video_encoder import FactorisedAttention, VideoEncoder, causal_mean

GRID = (2, 3)
WIDTH, FRAMES, PATCHES = 24, 5, 6


def make_encoder(**moe: Any) -> VideoEncoder:
    experts = MoeConfig(**{"num_experts": 4, "top_k": 2, "expert_size": 16, **moe})
    encoder = VideoEncoder(VideoEncoderConfig(num_layers=2, num_heads=2, moe=experts), WIDTH, GRID)
    init_module(encoder, seeded())
    perturb(encoder)
    return encoder


def patches(batch: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(batch, FRAMES, PATCHES, WIDTH, generator=seeded(seed))


def by_frame(states_BSD: Tensor) -> Tensor:
    return states_BSD.unflatten(1, (FRAMES, PATCHES))


def changed(first: Tensor, second: Tensor) -> Tensor:
    """Where two states differ, [T, N]."""
    return ~torch.isclose(first, second, atol=1e-6).all(dim=-1)[0]


@pytest.mark.parametrize("frame", range(FRAMES))
def test_later_frames_do_not_change_earlier_ones_and_earlier_ones_do_change_later_ones(frame: int) -> None:
    encoder = make_encoder()
    before = patches()
    after = before.clone()
    after[:, frame] += 1.0
    difference = changed(by_frame(encoder(before)[0]), by_frame(encoder(after)[0]))
    assert not difference[:frame].any()
    assert difference[frame:].all(), "every patch of this frame and of those after it"


def test_attention_goes_along_one_axis_only() -> None:
    rotary = grid_rotary_3d(FRAMES, *GRID, WIDTH // 2, torch.device("cpu"))
    before = patches()
    after = before.clone()
    after[:, 2, 4] += 1.0
    for temporal in (False, True):
        attention = FactorisedAttention(WIDTH, 2, temporal=temporal)
        init_module(attention, seeded())
        states = [by_frame(attention(x.flatten(1, 2), rotary, FRAMES)) for x in (before, after)]
        expected = torch.zeros(FRAMES, PATCHES, dtype=torch.bool)
        expected[(slice(2, None), 4) if temporal else 2] = True
        assert torch.equal(changed(*states), expected)


def test_the_order_of_earlier_frames_counts() -> None:
    encoder = make_encoder()
    before = patches()
    swapped = before[:, [1, 0, 2, 3, 4]]
    assert changed(by_frame(encoder(before)[0]), by_frame(encoder(swapped)[0]))[2:].all()


def test_places_within_a_frame_count() -> None:
    encoder = make_encoder()
    before = patches()
    states, mirrored = by_frame(encoder(before)[0]), by_frame(encoder(before.flip(2))[0])
    assert changed(states, mirrored.flip(2)).all()


def test_the_router_knows_what_was_at_a_place_before() -> None:
    encoder = make_encoder()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "out_proj" in name:  # no attention: tokens know of one another through their router only
                parameter.zero_()
            if "router" in name:
                parameter.mul_(10)
    before = patches()
    after = before.clone()
    after[:, 0] = torch.randn(PATCHES, WIDTH, generator=seeded(9))
    difference = changed(by_frame(encoder(before)[0]), by_frame(encoder(after)[0]))
    assert difference[1:].any()


def test_the_summary_of_the_past_is_its_mean() -> None:
    x = patches(2)
    summary = causal_mean(x)
    for frame in range(FRAMES):
        torch.testing.assert_close(summary[:, frame], x[:, : frame + 1].mean(dim=1))


def test_clips_do_not_see_one_another() -> None:
    encoder = make_encoder()
    both = patches(2)
    together = encoder(both)[0]
    torch.testing.assert_close(together, torch.cat([encoder(both[:1])[0], encoder(both[1:])[0]]))


@pytest.mark.parametrize("balance", ["loss_free", "aux_loss"])
def test_experts_are_counted_once_and_balanced(balance: str) -> None:
    encoder = make_encoder(balance=balance)
    x = patches(2)
    states, aux_loss = encoder(x)
    assert (aux_loss > 0) == (balance == "aux_loss")
    gradients = []
    for enabled in (False, True):
        encoder.gradient_checkpointing_enable(enabled)
        encoder.zero_grad()
        (encoder(x)[0].square().sum() + aux_loss.detach()).backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    assert all(layer.experts.router.load_E.sum() == 3 * 2 * FRAMES * PATCHES * 2 for layer in encoder.layers)
    assert states.shape == (2, FRAMES * PATCHES, WIDTH)


def test_heads_that_three_axes_do_not_fit_are_refused() -> None:
    for width in (20, 8):
        with pytest.raises(ValueError, match=rf"hidden_size {width} is .*num_heads 4 .*change one of them"):
            VideoEncoder(VideoEncoderConfig(num_heads=4), width, GRID)

"""The video encoder: who sees whom, in space and in time."""

from typing import Any

import pytest
import torch
from support.small_models import perturb, seeded
from torch import Tensor

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.config.video_encoder import VideoEncoderConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.layers.space_time import space_time_rotary
from xoron_core.model.vision.video_encoder import VideoEncoder, VideoLayer

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


def encode(encoder: VideoEncoder, patches_BTND: Tensor) -> Tensor:
    """[B, T, N, D] → the same."""
    return encoder(patches_BTND.flatten(0, 1), FRAMES)[0].view(patches_BTND.shape)


def changed(first: Tensor, second: Tensor) -> Tensor:
    """Where two states differ, [T, N]."""
    return ~torch.isclose(first, second, atol=1e-6).all(dim=-1)[0]


@pytest.mark.parametrize("frame", range(FRAMES))
def test_later_frames_do_not_change_earlier_ones_and_earlier_ones_do_change_later_ones(frame: int) -> None:
    encoder = make_encoder()
    before = patches()
    after = before.clone()
    after[:, frame] += 1.0
    difference = changed(encode(encoder, before), encode(encoder, after))
    assert not difference[:frame].any()
    assert difference[frame:].all(), "every patch of this frame and of those after it"


@pytest.mark.parametrize("axis", ["frame", "time"])
def test_attention_goes_along_one_axis_only(axis: str) -> None:
    encoder = make_encoder()
    layer = encoder.layers[0]
    assert isinstance(layer, VideoLayer)
    with torch.no_grad():  # only this kind of attention is left
        other = layer.frame_attention if axis == "time" else layer.time_attention
        for weight in (other.out_proj.weight, layer.experts.shared.down_proj.weight, layer.experts.experts.down_EFD):
            weight.zero_()
    before = patches()
    after = before.clone()
    after[:, 2, 4] += 1.0
    rotary = space_time_rotary(1, FRAMES, *GRID, WIDTH // 2, before.device)
    expected = torch.zeros(FRAMES, PATCHES, dtype=torch.bool)
    expected[(slice(2, None), 4) if axis == "time" else 2] = True
    states = [layer(x[0], FRAMES, rotary)[0].unsqueeze(0) for x in (before, after)]
    assert torch.equal(changed(*states), expected)


def test_the_order_of_earlier_frames_counts() -> None:
    encoder = make_encoder()
    before = patches()
    swapped = before[:, [1, 0, 2, 3, 4]]
    assert changed(encode(encoder, before), encode(encoder, swapped))[2:].all()


def test_places_within_a_frame_count() -> None:
    encoder = make_encoder()
    before = patches()
    states, mirrored = encode(encoder, before), encode(encoder, before.flip(2))
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
    difference = changed(encode(encoder, before), encode(encoder, after))
    assert difference[1:].any()


def test_clips_do_not_see_one_another() -> None:
    encoder = make_encoder()
    both = patches(2)
    apart = torch.cat([encode(encoder, clip) for clip in both.split(1)])
    torch.testing.assert_close(encode(encoder, both), apart)


@pytest.mark.parametrize("balance", ["loss_free", "aux_loss"])
def test_experts_are_counted_once_and_balanced(balance: str) -> None:
    encoder = make_encoder(balance=balance)
    x = patches(2).flatten(0, 1)
    states, aux_loss = encoder(x, FRAMES)
    assert (aux_loss > 0) == (balance == "aux_loss")
    gradients = []
    for enabled in (False, True):
        encoder.gradient_checkpointing_enable(enabled)
        encoder.zero_grad()
        encoder(x, FRAMES)[0].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
    assert all(layer.experts.router.load_E.sum() == 3 * 2 * FRAMES * PATCHES * 2 for layer in encoder.layers)
    assert states.shape == (2, FRAMES * PATCHES, WIDTH)


def test_heads_that_three_axes_do_not_fit_are_refused() -> None:
    for width in (20, 8):
        with pytest.raises(ValueError, match=rf"hidden_size {width} is .*num_heads 4 .*change one of them"):
            VideoEncoder(VideoEncoderConfig(num_heads=4), width, GRID)

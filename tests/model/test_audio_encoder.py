"""What the audio encoder hears: rates, padding, every layer at work, the CTC head and the projector on it."""

import math
from typing import Any

import pytest
import torch
from support.small_models import perturb, seeded
from torch import Tensor

from xoron_core.contract.config.audio_encoder import AudioEncoderConfig, AudioProjectorConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.speech.audio_encoder import AudioEncoder, AudioFeatures
from xoron_core.model.speech.audio_projector import AudioProjector, num_audio_tokens
from xoron_core.model.speech.ctc import BLANK, CtcHead
from xoron_core.model.speech.waveform_encoder import OVERHANG_FRAMES, ValidGroupNorm, WaveformEncoder

KINDS: dict[str, dict[str, Any]] = {
    "samples": {},
    "samples, blocks at the rate of mels": {"blocks_at_mel_rate": True},
    "mels": {"use_raw_waveform": False},
}


def small(**changes: Any) -> AudioEncoderConfig:
    values: dict[str, Any] = {
        "conv_channels": (8, 8, 16, 16, 24, 24),
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "kv_rank": 12,
        "conv_kernel_size": 5,
        "feed_forward_size": 32,
        "projector": AudioProjectorConfig(hidden_size=24),
    }
    return AudioEncoderConfig(**(values | changes))


def make_encoder(**changes: Any) -> AudioEncoder:
    encoder = AudioEncoder(small(**changes))
    init_module(encoder, seeded())
    return encoder


def sound(num_samples: int, batch: int = 1, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(batch, num_samples, generator=seeded(seed))


def hear(encoder: AudioEncoder, waveform_BT: Tensor, *lengths: int) -> AudioFeatures:
    features: AudioFeatures = encoder(waveform_BT, torch.tensor(lengths))
    return features


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def encoder(request: pytest.FixtureRequest) -> AudioEncoder:
    return make_encoder(**request.param)


def test_a_frame_for_every_hop_begun(encoder: AudioEncoder) -> None:
    hop = 64 if encoder.config.use_raw_waveform else 256
    for num_samples in (1, 63, 64, 65, 256, 257, 1000):
        features = hear(encoder, sound(num_samples), num_samples)
        assert features.features_BFD.shape == (1, math.ceil(num_samples / hop), 16)
        assert features.mask_BF.all()
        assert torch.isfinite(features.features_BFD).all()
        slow = encoder.averaged_to_mel_rate(features)
        assert slow.features_BFD.shape[1] == math.ceil(num_samples / 256)


@torch.no_grad()
def test_padding_and_neighbours_change_nothing(encoder: AudioEncoder) -> None:
    for num_samples in (1, 64, 700, 2048):
        alone = hear(encoder, sound(num_samples), num_samples)
        beside = sound(4096, batch=2, seed=2)
        beside[0, :num_samples] = sound(num_samples)[0]
        padded = hear(encoder, beside, num_samples, 4096)  # what lies beyond the length is noise here
        there = padded.mask_BF[0]
        assert there.sum() == alone.mask_BF.sum()
        torch.testing.assert_close(padded.features_BFD[0, there], alone.features_BFD[0], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_every_sample_is_heard_and_loudness_is_not(encoder: AudioEncoder) -> None:
    waveform = sound(2048)
    before = hear(encoder, waveform, 2048).features_BFD
    for at in (0, 1000, 2047):
        changed = waveform.clone()
        changed[0, at] += 1.0
        assert not torch.allclose(hear(encoder, changed, 2048).features_BFD, before, atol=1e-4), at
    if encoder.config.use_raw_waveform:
        torch.testing.assert_close(hear(encoder, 7 * waveform, 2048).features_BFD, before, rtol=1e-2, atol=1e-2)


def test_silence_is_heard_as_something_finite_with_a_finite_gradient(encoder: AudioEncoder) -> None:
    hear(encoder, torch.zeros(1, 1000), 1000).features_BFD.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_every_parameter_gets_a_gradient(encoder: AudioEncoder) -> None:
    perturb(encoder)
    weights = torch.randn(16, generator=seeded(4))
    (hear(encoder, sound(3000, batch=2), 3000, 2000).features_BFD * weights).sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


def test_recomputed_activations_give_the_same_gradients(encoder: AudioEncoder) -> None:
    gradients = []
    for enabled in (False, True):
        encoder.zero_grad()
        encoder.train().gradient_checkpointing_enable(enabled)
        hear(encoder, sound(1000), 1000).features_BFD.square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_are_the_same_after_a_construction_on_meta(encoder: AudioEncoder) -> None:
    with torch.device("meta"):
        other = AudioEncoder(encoder.config)
    other.to_empty(device="cpu")
    init_module(other, seeded())
    for (name, one), two in zip(encoder.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_group_norm_of_unpadded_rows_is_torchs() -> None:
    norm, x = ValidGroupNorm(2, 16), torch.randn(3, 16, 40, generator=seeded())
    plain = torch.nn.GroupNorm(2, 16)
    torch.testing.assert_close(norm(x, torch.tensor([40, 40, 40])), plain(x), rtol=1e-4, atol=1e-5)
    padded = torch.nn.functional.pad(x, (0, 9))
    torch.testing.assert_close(norm(padded, torch.tensor([40, 40, 40]))[..., :40], plain(x), rtol=1e-4, atol=1e-5)


def test_frames_that_see_a_sample_are_counted() -> None:
    layers = WaveformEncoder((8,) * 6).layers
    for num_samples in (*range(1, 260, 7), 5000):
        seen = torch.nn.functional.pad(torch.ones(1, 1, num_samples), (0, 64 * 100 - num_samples % 64))
        reach = torch.tensor([num_samples])
        for layer in layers:
            kernel = torch.ones(1, 1, layer.convolution.kernel_size[0])
            seen = torch.nn.functional.conv1d(seen, kernel, stride=2, padding=layer.convolution.padding[0]).clamp(max=1)
            reach = layer.reach(reach)
            assert int(seen.nonzero()[:, 2].max()) + 1 == int(reach)
        assert int(reach) <= math.ceil(num_samples / 64) + OVERHANG_FRAMES


def test_the_first_filters_ring_at_their_own_pitch() -> None:
    encoder = WaveformEncoder((16, 8, 8, 8, 8, 8))
    init_module(encoder, seeded())
    spectra = torch.fft.rfft(encoder.layers[0].convolution.weight[:, 0], n=16_000).abs()
    pitches = spectra[8:].argmax(dim=1)  # in Hz; lower ones are wider than their pitch is high
    assert (pitches.diff() > 0).all()
    assert 1000 < pitches[0] < pitches[-1] < 7200


@pytest.mark.parametrize(("kind", "stacked"), [({}, 8), ({"use_raw_waveform": False}, 2)])
def test_the_projector_gives_as_many_embeddings_as_placeholders_are_counted(kind: dict[str, Any], stacked: int) -> None:
    encoder = make_encoder(**kind)
    projector = AudioProjector(encoder.config, 32)
    init_module(projector, seeded())
    assert projector.num_stacked == stacked
    lengths = (1, 511, 512, 513, 4000)
    media = projector(hear(encoder, sound(4000, batch=5), *lengths))
    assert media.mask_BM.sum(dim=1).tolist() == [num_audio_tokens(length) for length in lengths] == [1, 1, 1, 2, 8]
    assert media.tokens_BMD.shape == (5, 8, 32)


def test_averages_leave_padding_out() -> None:
    features = torch.tensor([[[1.0], [3.0], [5.0], [9.0], [7.0]]])
    mask = torch.tensor([[True, True, True, False, False]])
    averaged = AudioFeatures(features, mask).averaged(2)
    assert averaged.features_BFD.flatten().tolist() == [2.0, 5.0, 0.0]
    assert averaged.mask_BF.tolist() == [[True, True, False]]


def probability_of(log_probs_FK: Tensor, target: list[int]) -> float:
    """Summed over every path that reads as the target, one by one."""
    frames = len(log_probs_FK)
    kinds = [BLANK, *sorted(set(target))]
    total = 0.0
    for number in range(len(kinds) ** frames):
        path = [kinds[number // len(kinds) ** at % len(kinds)] for at in range(frames)]
        merged = [kind for at, kind in enumerate(path) if at == 0 or path[at - 1] != kind]
        if [kind for kind in merged if kind != BLANK] == target:
            total += math.exp(sum(float(log_probs_FK[at, kind]) for at, kind in enumerate(path)))
    return total


def make_head() -> CtcHead:
    head = CtcHead(16)
    init_module(head, seeded())
    return head


@torch.no_grad()
def test_ctc_sums_over_all_paths() -> None:
    head, features = make_head(), torch.randn(2, 6, 16, generator=seeded(2))
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    targets = torch.tensor([list(b"aab"), list(b"ba\0")])
    found = head.loss_sum(AudioFeatures(features, mask), targets, torch.tensor([3, 2]))
    log_probs = head(features)
    expected = probability_of(log_probs[0], list(b"aab")), probability_of(log_probs[1, :4], list(b"ba"))
    assert float(found) == pytest.approx(-math.log(expected[0]) - math.log(expected[1]), rel=1e-4)


@torch.no_grad()
def test_ctc_without_room_is_infinite_and_not_hidden() -> None:
    short = AudioFeatures(torch.zeros(1, 2, 16), torch.ones(1, 2, dtype=torch.bool))
    assert make_head().loss_sum(short, torch.tensor([list(b"aa")]), torch.tensor([2])) == math.inf


@torch.no_grad()
def test_the_likeliest_path_is_read_without_repeats_blanks_and_padding() -> None:
    head = make_head()
    head.score_proj.weight.zero_()
    head.score_proj.bias.zero_()
    path = [ord("a"), ord("a"), BLANK, ord("a"), ord("b"), BLANK, ord("c")]
    for at, kind in enumerate(path):
        head.score_proj.weight[kind, at] = 5.0
    features = torch.eye(16)[:7].unsqueeze(0)
    mask = torch.tensor([[True] * 6 + [False]])
    assert head.decode(AudioFeatures(features, mask)) == [b"aab"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conv_channels": (8, 8)}, "has 2 entries; give 6"),
        ({"conv_channels": (8, 8, 8, 8, 8, 12)}, "12 is not a multiple of 8"),
        ({"hidden_size": 18, "num_heads": 2}, "not a multiple of 2 × num_heads"),
        ({"conv_kernel_size": 4}, "make it odd"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        small(**changes)

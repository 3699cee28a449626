"""Video generation: what is drawn, what is learned, what is shown."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.small_models import perturb
from support.tiny import TINY_MODEL

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import ConfigError, DataError
from xoron_core.contract.presets import resolve
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Batch
from xoron_core.modalities.clip_files import clip_artifact
from xoron_core.modalities.flow_matching import CaptionedSample
from xoron_core.modalities.video_generation.modality import VideoGeneration, VideoPrompt, temporal_inconsistency
from xoron_core.model.flow import frame_times, interpolate
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_model

SMALL = {
    "video_size": 32,
    "num_frames": 4,
    "max_prompt_tokens": 8,
    "sampling_steps": 2,
    "guidance_scale": 2.0,
    "sample_prompts": ["a red apple"],
    "sample_first_frames": 2,
}
VIDEO_GENERATOR = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "moe": {"num_experts": 3, "top_k": 2, "expert_size": 24},
}


def config(**changes: Any) -> RunConfig:
    overrides = {
        "model": {**TINY_MODEL, "video_generator": VIDEO_GENERATOR},
        "data": {"sources": [{"name": "clips", "category": "video_generation", "path": "/nowhere"}]},
        "modalities": {"video_generation": SMALL | changes},
    }
    return resolve("demo", overrides)


def make_modality(**changes: Any) -> VideoGeneration:
    return VideoGeneration(config(**changes), Tokenizer.load("demo"))


def frames(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A square that moves to the right, in a colour of its own."""
    clip = np.full((4, 32, 32, 3), 255, dtype=np.uint8)
    for at in range(4):
        clip[at, 8:24, 4 + 4 * at : 16 + 4 * at] = (40 * index % 256, 90, 200)
    return clip


def samples(modality: VideoGeneration, count: int = 4) -> list[CaptionedSample]:
    captions = ["a red apple moves", "a sun", "a blue heart moves to the right", "a face"]
    return [
        modality.prepare(
            Record(
                "clips",
                index,
                {"video": "a.webp", "caption": captions[index % 4]},
                lambda _, index=index: clip_artifact(frames(index), "").content,
            ),
            SampleOrigin("clips", index, seed=index),
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def modality() -> VideoGeneration:
    return make_modality()


@pytest.fixture(scope="module")
def model(modality: VideoGeneration) -> XoronMultimodalModel:
    made = build_model(config(), {"video_generation": modality}, modality.tokenizer, torch.device("cpu")).eval()
    perturb(made.video_generator)
    return made


def changed(batch: Batch, **tensors: torch.Tensor) -> Batch:
    return Batch(**{**vars(batch), "tensors": batch.tensors | tensors})


def mean(terms: dict[str, tuple[torch.Tensor, torch.Tensor]], name: str) -> float:
    return float(terms[name][0] / terms[name][1])


def test_a_batch_holds_clips_and_what_their_seeds_draw(modality: VideoGeneration) -> None:
    rows = samples(modality)
    batch = modality.collate(rows)
    assert batch.tensors["videos"].shape == (4, 4, 3, 32, 32)
    assert batch.tensors["noise"].shape == batch.tensors["posterior_noise"].shape == (4, 4, 4, 4, 4)
    assert batch.counts == {"loss": 4.0, "temporal_loss": 4.0}
    shown = batch.tensors["videos"][2, 3].permute(1, 2, 0).add(1).mul(127.5).round().to(torch.uint8)
    assert np.array_equal(shown.numpy(), rows[2].pixels[3])
    alone = modality.collate(rows[2:3])
    for name in ("times", "noise", "drop_prompt", "first_frame", "videos"):
        assert torch.equal(alone.tensors[name][0], batch.tensors[name][2]), name


def test_the_share_of_first_frames_is_as_configured_and_depends_on_nothing_else() -> None:
    drawn = {
        rate: [make.draw(SampleOrigin("clips", 0, seed)) for seed in range(400)]
        for rate in (0.0, 0.5, 1.0)
        if (make := make_modality(first_frame_rate=rate))
    }
    given = {rate: sum(int(draw["first_frame"]) for draw in draws) for rate, draws in drawn.items()}
    assert given[0.0] == 0
    assert 160 < given[0.5] < 240
    assert given[1.0] == 400
    half = drawn[0.5]
    dropped = sum(int(draw["drop_prompt"]) for draw in half if draw["first_frame"])
    assert 5 < dropped < 40, "a tenth of the captions, with first frames as without"


def test_a_clip_that_cannot_be_read_is_told_of(modality: VideoGeneration) -> None:
    record = Record("clips", 3, {"video": "a.webp", "caption": "a sun"}, lambda _: b"RIFF, not really")
    with pytest.raises(DataError, match=r"clips.*3.*not a readable clip"):
        modality.prepare(record, SampleOrigin("clips", 3, 0))


@torch.no_grad()
def test_a_given_first_frame_is_given_clean_and_not_learned(
    modality: VideoGeneration, model: XoronMultimodalModel
) -> None:
    rows = samples(modality)
    batch = modality.collate(rows)
    yes, no = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    noise = batch.tensors["noise"].clone()
    noise[:, 0] += 1
    given = modality.loss(model, changed(batch, first_frame=yes))
    other = modality.loss(model, changed(batch, first_frame=yes, noise=noise))
    for name in ("loss", "temporal_loss"):
        assert torch.equal(given[name][0], other[name][0]), "noise on a clean frame makes a difference"
    hidden = modality.loss(model, changed(batch, first_frame=no))
    assert mean(modality.loss(model, changed(batch, first_frame=no, noise=noise)), "loss") != mean(hidden, "loss")
    assert mean(given, "loss") != mean(hidden, "loss")
    half = modality.loss(model, changed(batch, first_frame=torch.tensor([True, True, False, False])))
    first_two = modality.loss(model, changed(modality.collate(rows[:2]), first_frame=yes[:2]))
    last_two = modality.loss(model, changed(modality.collate(rows[2:]), first_frame=no[2:]))
    torch.testing.assert_close(half["loss"][0], first_two["loss"][0] + last_two["loss"][0])


@torch.no_grad()
def test_evaluation_keeps_captions_and_gives_no_first_frame_but_for_a_metric_of_its_own(
    model: XoronMultimodalModel,
) -> None:
    modality = make_modality(first_frame_rate=1.0, cfg_dropout_rate=1.0)
    raw = modality.collate(samples(modality))
    assert raw.tensors["first_frame"].all()
    assert raw.tensors["drop_prompt"].all()
    batch = modality.for_evaluation(raw)
    assert not batch.tensors["first_frame"].any()
    assert not batch.tensors["drop_prompt"].any()
    terms = modality.evaluate(model, batch)
    assert mean(terms, "loss") == mean(modality.loss(model, batch), "loss")
    given = modality.loss(model, changed(batch, first_frame=raw.tensors["first_frame"]))
    assert mean(terms, "first_frame_loss") == mean(given, "loss") != mean(terms, "loss")


@torch.no_grad()
def test_the_untrained_model_has_the_loss_of_predicting_zero(modality: VideoGeneration) -> None:
    fresh = build_model(config(), {"video_generation": modality}, modality.tokenizer, torch.device("cpu")).eval()
    batch = modality.for_evaluation(modality.collate(samples(modality)))
    latents = fresh.encode_videos(batch.tensors["videos"], batch.tensors["posterior_noise"])
    expected = (batch.tensors["noise"] - latents).square().mean()
    assert mean(modality.loss(fresh, batch), "loss") == pytest.approx(float(expected), rel=1e-5)


def test_temporal_consistency_compares_the_changes_of_predicted_and_true_clean_latents() -> None:
    data, noise, velocity = torch.randn(3, 2, 4, 4, 2, 2, generator=torch.Generator().manual_seed(0)).unbind()
    times = frame_times(torch.tensor([0.3, 0.9]), 4, torch.tensor([True, False]))
    clean = interpolate(data, noise, times) - times[:, :, None, None, None] * velocity
    expected = (clean.diff(dim=1) - data.diff(dim=1)).square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(temporal_inconsistency(velocity - (noise - data), times), expected)
    alike = (velocity - noise)[:, :1].expand_as(velocity)
    even = torch.tensor([0.5, 0.9])[:, None].expand(2, 4)
    assert temporal_inconsistency(alike, even).max() == 0, "an error that is the same in all frames does not flicker"


@torch.no_grad()
def test_experts_that_are_balanced_by_a_loss_bring_it() -> None:
    moe = VIDEO_GENERATOR["moe"] | {"balance": "aux_loss"}  # type: ignore[operator]
    changed_config = resolve(
        "demo",
        merge(config().to_dict(), {"model": {"video_generator": {"moe": moe}}}),
    )
    modality = VideoGeneration(changed_config, Tokenizer.load("demo"))
    model = build_model(changed_config, {"video_generation": modality}, modality.tokenizer, torch.device("cpu"))
    batch = modality.collate(samples(modality))
    assert batch.counts["moe_aux"] == 1.0
    assert mean(modality.loss(model, batch), "moe_aux") > 0


def test_samples_are_clips_of_captions_and_of_held_out_first_frames(
    modality: VideoGeneration, model: XoronMultimodalModel
) -> None:
    held_out = [sample for sample in samples(modality, 3) for _ in range(2)]  # as evaluation repeats its rows
    prompts = modality.prompts(held_out)
    assert [prompt.caption for prompt in prompts] == ["a red apple", held_out[0].caption, held_out[-1].caption]
    assert prompts[0].first_frame is None
    assert np.array_equal(prompts[2].first_frame, held_out[-1].pixels[0])
    (clip,) = modality.sample(model, prompts[0], torch.Generator().manual_seed(0))
    assert (clip.mime, clip.suffix, clip.caption) == ("image/webp", "webp", "a red apple")
    with Image.open(io.BytesIO(clip.content)) as image:
        assert (image.n_frames, image.size) == (4, (32, 32))  # type: ignore[attr-defined]
    first, animated = modality.sample(model, prompts[1], torch.Generator().manual_seed(0))
    with Image.open(io.BytesIO(first.content)) as image:
        assert np.array_equal(np.asarray(image), held_out[0].pixels[0])
    assert animated.suffix == "webp"
    assert modality.prompts([]) == (VideoPrompt("a red apple"),)


def test_frames_that_patches_do_not_fill_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"video_generation.video_size 72 is not a multiple of 16 .*video_generator"):
        config(video_size=72)

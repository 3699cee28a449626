"""Video understanding: what a row becomes, and that frames and their order are looked at."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError, DataError
from xoron_core.contract.presets import resolve
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.clip_files import clip_artifact
from xoron_core.modalities.media_text import MediaTextSample
from xoron_core.modalities.video_understanding.modality import VideoUnderstanding
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_model

SMALL: dict[str, Any] = {
    "language": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "kv_lora_rank": 16, "intermediate_size": 48,
                 "initializer_range": 0.15, "moe": {"num_experts": 4, "expert_size": 24}},
    "fusion": {"num_layers": 1, "num_heads": 2},
    "vision_encoder": {"pretrained": None, "image_size": 24, "patch_size": 8, "hidden_size": 24, "num_layers": 1,
                       "num_heads": 2, "intermediate_size": 32},
    "video_encoder": {"num_layers": 1, "num_heads": 2, "moe": {"num_experts": 4, "expert_size": 16}},
    "video_projector": {"kind": "perceiver", "num_latents": 5, "num_layers": 1, "num_heads": 2},
}  # fmt: skip


def config(num_frames: int = 4, **model: Any) -> RunConfig:
    return resolve(
        "demo",
        {
            "model": SMALL | model,
            "data": {"sources": [{"name": "films", "category": "video", "path": "films"}]},
            "modalities": {"video_understanding": {"batch_size": 2, "num_frames": num_frames, "max_answer_tokens": 24}},
        },
    )


def make(num_frames: int = 4, **model: Any) -> tuple[VideoUnderstanding, XoronMultimodalModel]:
    run_config = config(num_frames, **model)
    modality = VideoUnderstanding(run_config, Tokenizer.load("demo"))
    built = build_model(run_config, {modality.name: modality}, modality.tokenizer, torch.device("cpu"))
    with torch.no_grad():
        for layer in built.fusion.layers:
            layer.gate.fill_(1.0)  # type: ignore[operator]
    return modality, built


def square_moves(leftwards: bool, num_frames: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    frames = np.full((num_frames, 24, 24, 3), 255, np.uint8)
    for at, frame in enumerate(frames):
        left = 6 * (num_frames - 1 - at if leftwards else at)
        frame[8:14, left : left + 6] = (200, 0, 0)
    return frames


def row(leftwards: bool = True, **fields: object) -> Record:
    content = clip_artifact(square_moves(leftwards), "").content
    answer = f"to the {'left' if leftwards else 'right'}"
    given = {"video": "a.webp", "question": "Where does it go?", "answer": answer, **fields}
    return Record("films", 3, given, lambda _: content)


def prepare(modality: VideoUnderstanding, record: Record) -> MediaTextSample[np.uint8]:
    return modality.prepare(record, SampleOrigin("films", record.index, 1))


def test_a_row_becomes_a_conversation_about_a_clip() -> None:
    modality, _ = make()
    sample = prepare(modality, row())
    assert modality.tokenizer.decode(list(sample.prompt_ids)) == (
        "<|bos|><|user|>\n<|video|>" + "<|placeholder|>" * 5 + "<|/video|>"
        "Where does it go?\n<|/user|><|assistant|>\n"
    )  # fmt: skip
    assert modality.tokenizer.decode(list(sample.answer_ids)) == "to the left\n<|/assistant|><|eos|>"
    assert (sample.media.shape, sample.media.dtype) == ((4, 24, 24, 3), np.uint8)
    assert np.abs(sample.media.astype(int) - square_moves(leftwards=True)).mean() < 5
    batch = modality.collate([sample, prepare(modality, row(leftwards=False))])
    videos = batch.tensors["videos"]
    assert (videos.shape, videos.dtype) == ((2, 4, 3, 24, 24), torch.float32)
    torch.testing.assert_close(videos[0].permute(0, 2, 3, 1), torch.from_numpy(sample.media) / 127.5 - 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"video": None}, "field 'video'"),
        ({"question": ""}, "field 'question'"),
        ({"answer": 3}, "field 'answer'"),
        ({"answer": "very " * 30}, r"more than modalities\.video_understanding\.max_answer_tokens 24"),
    ],
)
def test_a_row_that_lacks_something_is_a_data_error(fields: dict[str, object], reason: str) -> None:
    modality, _ = make()
    with pytest.raises(DataError, match=reason):
        prepare(modality, row(**fields))


@pytest.mark.parametrize("kind", ["perceiver", "mlp", "spatial"])
@pytest.mark.parametrize("num_frames", [2, 3])
def test_there_are_as_many_placeholders_as_embeddings(kind: str, num_frames: int) -> None:
    modality, model = make(num_frames, video_projector={**SMALL["video_projector"], "kind": kind})
    batch = modality.collate([prepare(modality, row())])
    media = modality.encode_media(model, batch.tensors)
    expected = {"perceiver": 5, "mlp": 9 * num_frames, "spatial": 4 * num_frames}[kind]
    assert media.tokens_BMD.shape == (1, expected, 32)
    assert media.mask_BM.all()
    assert (batch.tensors["input_ids"] == modality.placeholder_id).sum() == expected


def test_a_clip_that_runs_backwards_is_another_clip() -> None:
    modality, model = make()
    sample = prepare(modality, row())
    backwards = modality.with_condition_of(sample, prepare(modality, row(leftwards=False)))
    assert backwards is not None
    assert np.abs(backwards.media[::-1].astype(int) - sample.media).mean() < 5, "the same frames"
    losses = [modality.loss(model, modality.collate([clip]))["loss"][0] for clip in (sample, backwards)]
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize("balance", ["loss_free", "aux_loss"])
def test_the_experts_balance_is_part_of_the_objective_where_a_loss_keeps_it(balance: str) -> None:
    moe = {**SMALL["video_encoder"]["moe"], "balance": balance}
    modality, model = make(video_encoder={**SMALL["video_encoder"], "moe": moe})
    batch = modality.collate([prepare(modality, row()), prepare(modality, row(leftwards=False))])
    terms = modality.loss(model, batch)
    assert set(modality.objective) == set(terms) <= set(batch.counts)
    assert ("moe_aux" in terms) == (balance == "aux_loss")
    for name, (_, count) in terms.items():
        assert float(count) == batch.counts[name]
    if balance == "aux_loss":
        terms["moe_aux"][0].backward()
        assert model.video_encoder.layers[0].experts.router.weight_ED.grad.any()  # type: ignore[union-attr]


def test_the_experts_load_is_a_metric() -> None:
    modality, model = make()
    modality.loss(model.train(), modality.collate([prepare(modality, row())]))["loss"][0].backward()
    model.update_router_biases()
    metrics = model.moe_metrics()
    assert 1.0 <= metrics["moe/video_encoder.0/load_max"] <= 2.0
    assert 0.0 < metrics["moe/video_encoder.0/entropy"] <= 1.0


def test_a_sample_shows_the_clip_and_the_answer_beside_the_true_one() -> None:
    modality, model = make()
    clip, answer = modality.sample(model.eval(), prepare(modality, row()), torch.Generator())
    assert (clip.mime, answer.mime) == ("image/webp", "text/plain")
    assert clip.caption == answer.caption
    assert "Where does it go?" in answer.caption
    assert answer.expected == "to the left"
    with Image.open(io.BytesIO(clip.content)) as image:
        assert (image.size, image.n_frames) == ((24, 24), 4)  # type: ignore[attr-defined]


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.video_encoder\.num_heads 5"):
        config(video_encoder={**SMALL["video_encoder"], "num_heads": 5})
    with pytest.raises(ConfigError, match="video_projector"):
        config(video_projector={**SMALL["video_projector"], "num_heads": 5})
    with pytest.raises(ConfigError, match="num_frames"):
        config(num_frames=1)

"""Questions about pictures: what rows become, what the model is given, what is shown."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.small_models import perturb

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import ConfigError, DataError
from xoron_core.contract.presets import resolve
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.image_understanding.modality import ImageUnderstanding
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_model

TINY = {
    "model": {
        "language": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "kv_lora_rank": 16, "intermediate_size": 48,
                     "moe": {"num_experts": 4, "expert_size": 24}},
        "fusion": {"num_layers": 2, "num_heads": 2},
        "vision_encoder": {"pretrained": None, "image_size": 32, "patch_size": 8, "hidden_size": 32, "num_layers": 1,
                           "num_heads": 2, "intermediate_size": 48},
        "image_compressor": {"num_tokens": 4, "num_layers": 1, "num_heads": 2},
        "image_projector": {"num_latents": 3, "num_layers": 1, "num_heads": 2},
    },
    "data": {"sources": [{"name": "pictures", "category": "vision", "path": "demo:pictures", "split": "questions",
                          "eval_split": "heldout_questions"}]},
    "modalities": {"image_understanding": {"batch_size": 2, "max_answer_tokens": 12}},
    "resources": {"device": "cpu"},
}  # fmt: skip

ORIGIN = SampleOrigin("pictures", 0, 1)


def config(**model: Any) -> RunConfig:
    return resolve("demo", merge(TINY, {"model": model}))


def make_modality(**model: Any) -> ImageUnderstanding:
    return ImageUnderstanding(config(**model), Tokenizer.load("demo"))


def make_model(modality: ImageUnderstanding) -> XoronMultimodalModel:
    model = build_model(modality.run_config, {modality.name: modality}, modality.tokenizer, torch.device("cpu"))
    perturb(model)
    return model.eval()


def picture(color: str, size: tuple[int, int] = (48, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def row(content: bytes = picture("red"), **fields: str) -> Record:
    given = {"image": "files/a.png", "question": "What color is it?", "answer": "red"} | fields
    return Record("pictures", 0, given, lambda _: content)


def test_a_row_becomes_a_conversation_with_a_place_for_every_embedding() -> None:
    modality = make_modality()
    sample = modality.prepare(row(), ORIGIN)
    assert modality.tokenizer.decode(sample.prompt_ids) == (
        "<|bos|><|user|>\n<|image|><|placeholder|><|placeholder|><|placeholder|><|/image|>What color is it?\n"
        "<|/user|><|assistant|>\n"
    )
    assert modality.tokenizer.decode(sample.answer_ids) == "red\n<|/assistant|><|eos|>"
    assert sample.media.shape == (32, 32, 3)


@pytest.mark.parametrize(("kind", "count"), [("perceiver", 3), ("mlp", 4), ("spatial", 1)])
def test_there_are_as_many_places_as_embeddings(kind: str, count: int) -> None:
    modality = make_modality(image_projector={"kind": kind})
    samples = [modality.prepare(row(), ORIGIN)]
    assert samples[0].prompt_ids.count(modality.placeholder_id) == count
    media = modality.encode_media(make_model(modality), modality.collate(samples).tensors)
    assert media.tokens_BMD.shape == (1, count, 32)
    assert media.mask_BM.all()


def test_pictures_lie_between_minus_one_and_one() -> None:
    modality = make_modality()
    samples = [modality.prepare(row(picture(color)), ORIGIN) for color in ("black", "white", "red")]
    images = modality.collate(samples).tensors["images"]
    assert images.shape == (3, 3, 32, 32)
    assert images[:, :, 0, 0].tolist() == [[-1, -1, -1], [1, 1, 1], [1, -1, -1]]


@pytest.mark.parametrize("field", ["image", "question", "answer"])
def test_rows_without_one_of_the_fields_are_unreadable(field: str) -> None:
    with pytest.raises(DataError, match=field):
        make_modality().prepare(row(**{field: " "}), ORIGIN)


def test_rows_that_cannot_be_learned_are_unreadable() -> None:
    modality = make_modality()
    with pytest.raises(DataError, match="not a readable picture"):
        modality.prepare(row(b"no picture"), ORIGIN)
    with pytest.raises(DataError, match="max_answer_tokens 12"):
        modality.prepare(row(answer="red " * 12), ORIGIN)


@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_text_with_a_place_for_media_is_unreadable(field: str) -> None:
    with pytest.raises(DataError, match=rf"field '{field}' contains <\|placeholder\|>"):
        make_modality().prepare(row(**{field: "red <|placeholder|>"}), ORIGIN)


@pytest.mark.parametrize("balance", ["loss_free", "aux_loss"])
def test_the_decoders_experts_are_balanced_as_configured(balance: str) -> None:
    modality = make_modality(language={"moe": {"balance": balance}})
    model = make_model(modality)
    batch = modality.collate([modality.prepare(row(), ORIGIN)])
    terms = modality.loss(model, batch)
    assert set(modality.objective) == set(terms) <= set(batch.counts)
    assert ("moe_aux" in terms) == (balance == "aux_loss")
    if balance == "aux_loss":
        terms["moe_aux"][0].backward()
        assert model.moe_layers()["llm.1"].router.weight_ED.grad.any()  # type: ignore[union-attr]


def test_the_answer_depends_on_the_picture() -> None:
    modality = make_modality()
    model = make_model(modality)
    batches = [modality.collate([modality.prepare(row(picture(color)), ORIGIN)]) for color in ("red", "blue")]
    with torch.no_grad():
        (red, red_count), (blue, blue_count) = (modality.loss(model, batch)["loss"] for batch in batches)
    assert red_count == blue_count == batches[0].counts["loss"]
    assert abs(float(red - blue)) > 1e-3


def test_a_sample_shows_the_picture_the_question_and_both_answers() -> None:
    modality = make_modality()
    prompt = modality.prepare(row(), ORIGIN)
    shown, text = modality.sample(make_model(modality), prompt, torch.Generator())
    assert (shown.mime, shown.caption, shown.expected) == ("image/png", "What color is it?", None)
    with Image.open(io.BytesIO(shown.content)) as image:
        assert np.array_equal(np.asarray(image), prompt.media)
    assert (text.mime, text.caption, text.expected) == ("text/plain", "What color is it?", "red")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"image_compressor": {"num_heads": 16}}, r"4 × model.image_compressor.num_heads 16"),
        ({"image_projector": {"num_heads": 3}}, r"model.image_projector.num_heads 3 is no divisor"),
        ({"fusion": {"num_heads": 3}}, r"hidden_size 32 is not a multiple of model.fusion.num_heads 3"),
        ({"fusion": {"num_layers": 3}}, r"model.fusion.num_layers 3 is more than model.language.num_layers 2"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**model)

"""The objective of one optimizer step."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_config, tiny_corpus
from torch import Tensor

from xoron_core.data.records import Sample, SampleOrigin
from xoron_core.data.sources import open_source
from xoron_core.data.sources.base import Source
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.base import Batch, Modality
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.build import build_model
from xoron_core.training.objective import WindowObjective

Parts = tuple[XoronMultimodalModel, dict[str, Modality[Any, Any]], dict[str, list[Sample]]]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    corpus = tiny_corpus(tmp_path)
    config = tiny_config(corpus, {"modalities": {"text": {"batch_size": 8}, "image_generation": {"batch_size": 8}}})
    tokenizer = Tokenizer.load("demo")
    modalities = enabled_modalities(config, tokenizer)
    model = build_model(config, modalities, tokenizer, torch.device("cpu"))
    samples: dict[str, list[Sample]] = {}
    for name in ("text", "image_generation"):
        [number] = config.sources_of(name)
        source = config.data.sources[number]
        with closing(open_source(source, source.split, None)) as reader:
            assert isinstance(reader, Source)
            samples[name] = [
                modalities[name].prepare(reader.read(index), SampleOrigin(source.name, index, index))
                for index in range(6)
            ]
    return model, modalities, samples


def gradients(
    model: XoronMultimodalModel, modalities: dict[str, Modality[Any, Any]], window: list[Batch]
) -> list[Tensor]:
    model.zero_grad(set_to_none=False)
    objective = WindowObjective(window, modalities)
    for batch in window:
        objective.contribution(batch, model(f"{batch.modality}.loss", batch)).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["text", "image_generation"])
def test_unequal_micro_batches_count_as_one_large_batch(parts: Parts, name: str) -> None:
    model, modalities, samples = parts
    collate = modalities[name].collate
    whole = gradients(model, modalities, [collate(samples[name])])
    split = gradients(model, modalities, [collate(samples[name][:1]), collate(samples[name][1:])])
    assert len(whole) == len(split) > 20
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_more_windows_of_the_same_mix_give_the_same_objective(parts: Parts) -> None:
    model, modalities, samples = parts
    text = modalities["text"].collate(samples["text"])
    image = modalities["image_generation"].collate(samples["image_generation"])
    once = gradients(model, modalities, [text, image])
    twice = gradients(model, modalities, [text, image, text, image])
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_objective_is_the_formula(parts: Parts) -> None:
    model, modalities, samples = parts
    batches = [modalities["text"].collate(samples["text"][start : start + 2]) for start in (0, 2, 4)]
    batches.append(modalities["image_generation"].collate(samples["image_generation"]))
    terms = [model(f"{batch.modality}.loss", batch) for batch in batches]
    objective = WindowObjective(batches, modalities)
    total = sum(objective.contribution(batch, term).item() for batch, term in zip(batches, terms, strict=True))
    text_sum = sum(term["loss"][0].item() for term in terms[:3])
    text_count = sum(term["loss"][1].item() for term in terms[:3])
    image_sum, image_count = (value.item() for value in terms[3]["loss"])
    expected = 1.0 * (3 / 4) * text_sum / text_count + 1.0 * (1 / 4) * image_sum / image_count
    assert total == pytest.approx(expected, rel=1e-5)


def test_counts_known_beforehand_are_those_of_the_loss(parts: Parts) -> None:
    model, modalities, samples = parts
    for name, group in samples.items():
        batch = modalities[name].collate(group)
        assert batch.counts["loss"] == pytest.approx(model(f"{name}.loss", batch)["loss"][1].item(), rel=1e-6)

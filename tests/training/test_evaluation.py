"""Held-out rows, with their own conditions and with those of others."""

from pathlib import Path

import pytest
import torch
from support.tiny import tiny_config, tiny_corpus

from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training.build import build_model, sources_with_modality
from xoron_core.training.evaluation import EvaluationSet, evaluate

NAME = "image_generation"


def held_out(folder: Path, num_rows: int, *, shuffled: bool = True) -> EvaluationSet:
    corpus = tiny_corpus(folder / str(num_rows), num_texts=1, num_pictures=num_rows)
    config = tiny_config(corpus, {"evaluation": {"shuffled": shuffled, "max_per_dataset_eval": 8}})
    modalities = enabled_modalities(config, Tokenizer.load("demo"))
    return EvaluationSet(sources_with_modality(config, modalities), modalities, config.evaluation)


def captions(evaluation: EvaluationSet, *, shuffled: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Row and ids of the caption of every sample of pictures that is evaluated."""
    batches = evaluation.shuffled_batches() if shuffled else evaluation.batches()
    found = []
    for batch in batches:
        if batch.modality == NAME:
            ids, mask = batch.tensors["prompt_ids"], batch.tensors["prompt_mask"]
            rows = (tuple(row[kept].tolist()) for row, kept in zip(ids, mask, strict=True))
            found += zip(batch.sample_ids, rows, strict=True)
    return found


def test_every_row_is_evaluated_as_often_as_its_modality_wants(tmp_path: Path) -> None:
    rows = [row for row, _ in captions(held_out(tmp_path, 5), shuffled=False)]
    assert sorted(rows) == sorted(4 * [f"pictures[{index}]" for index in range(5)])


def test_progress_is_told_for_every_sample(tmp_path: Path) -> None:
    config = held_out(tmp_path, 5).modalities[NAME].run_config
    modalities = enabled_modalities(config, Tokenizer.load("demo"))
    told: list[int] = []
    sources = sources_with_modality(config, modalities)
    evaluation = EvaluationSet(sources, modalities, config.evaluation, on_progress=lambda: told.append(1))
    assert len(told) == sum(map(len, evaluation.samples.values())) + len(sources)


def test_shuffled_rows_have_the_condition_of_another(tmp_path: Path) -> None:
    evaluation = held_out(tmp_path, 5)
    own, mixed = dict(captions(evaluation, shuffled=False)), captions(evaluation, shuffled=True)
    assert len(set(own.values())) == 5
    assert {row for row, _ in mixed} == set(own)
    assert all(caption in own.values() and caption != own[row] for row, caption in mixed)


def test_a_single_row_has_nobody_to_exchange_with(tmp_path: Path) -> None:
    assert captions(held_out(tmp_path, 1), shuffled=True) == []


@pytest.mark.parametrize("shuffled", [True, False])
def test_the_loss_with_other_conditions_is_a_metric_where_it_is_asked_for(tmp_path: Path, shuffled: bool) -> None:
    evaluation = held_out(tmp_path, 2, shuffled=shuffled)
    modalities = evaluation.modalities
    config = modalities[NAME].run_config
    model = build_model(config, dict(modalities), modalities[NAME].tokenizer, torch.device("cpu")).eval()
    *_, metrics = evaluate(model, evaluation, modalities, torch.device("cpu"))
    assert metrics is not None
    assert f"eval/{NAME}/loss" in metrics
    assert (f"eval/{NAME}/shuffled_loss" in metrics) is shuffled
    assert "eval/text/shuffled_loss" not in metrics, "text has no condition"

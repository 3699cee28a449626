"""Held-out rows, with their own conditions and with those of others."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from support.attempts import begin, of_kind
from support.tiny import tiny_config, tiny_corpus

from xoron_core.data.tokenizer import Tokenizer
from xoron_core.modalities.registry import enabled_modalities
from xoron_core.training.build import build_model, sources_with_modality
from xoron_core.training.evaluation import EvaluationSet, evaluate
from xoron_core.training.process import run_attempt

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


def test_so_many_rows_are_taken_from_each_data_set_by_itself(tmp_path: Path) -> None:
    """However large another one of the same modality is."""
    sources = []
    for name, num_rows in (("many", 12), ("few", 2), ("more", 7)):
        corpus = tiny_corpus(tmp_path / name, num_texts=num_rows, num_pictures=1)
        sources.append({"name": name, "category": "chain_of_thought", "path": str(corpus / "text")})
    config = tiny_config(tmp_path, {"data": {"sources": sources}, "evaluation": {"max_per_dataset_eval": 5}})
    modalities = enabled_modalities(config, Tokenizer.load("demo"))
    evaluation = EvaluationSet(sources_with_modality(config, modalities), modalities, config.evaluation)
    assert Counter(sample.origin.source for sample in evaluation.samples["text"]) == {"many": 5, "few": 2, "more": 5}


def test_it_comes_every_so_many_steps_at_each_end_of_an_epoch_and_at_the_end(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "corpus", num_texts=4, num_pictures=4)
    config = tiny_config(corpus, max_steps=11, eval_steps=4, num_epochs=9)
    run = begin(tmp_path, config)
    assert run_attempt(run, 1) == 0
    ends, drawn = [], 0.0
    for event in of_kind(run, "metrics"):
        before, drawn = drawn, event["values"]["data/pictures/samples"] + event["values"]["data/thoughts/samples"]
        if before // 12 < drawn // 12:  # four texts, and four pictures twice
            ends.append(event["step"])
    assert ends, "no epoch ends within the run"
    assert set(ends) - {4, 8, 11}, "each epoch ends where an evaluation is due anyway"
    assert [event["step"] for event in of_kind(run, "eval")] == sorted({4, 8, 11, *ends})


def test_the_mean_of_the_headline_losses_is_a_value_of_its_own(tmp_path: Path) -> None:
    evaluation = held_out(tmp_path, 2)
    modalities = evaluation.modalities
    config = modalities[NAME].run_config
    model = build_model(config, dict(modalities), modalities[NAME].tokenizer, torch.device("cpu")).eval()
    *_, metrics = evaluate(model, evaluation, modalities, torch.device("cpu"))
    assert metrics is not None
    assert metrics["eval/loss"] == (metrics["eval/text/loss"] + metrics[f"eval/{NAME}/loss"]) / 2


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

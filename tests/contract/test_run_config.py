"""`RunConfig`: what it takes, what it refuses, and how it says so."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import ConfigError, FieldProblem
from xoron_core.contract.files import parse_yaml, to_yaml
from xoron_core.contract.presets import resolve


def problems(overrides: dict[str, Any], preset: str | None = "demo") -> list[FieldProblem]:
    with pytest.raises(ConfigError) as caught:
        resolve(preset, overrides)
    return caught.value.problems


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("trainig", "training"),
        ("training.learning_rat", "learning_rate"),
        ("model.language.num_layer", "num_layers"),
        ("model.language.moe.num_expert", "num_experts"),
        ("modalities.text.batchsize", "batch_size"),
        ("modalities.image_generaton", "image_generation"),
    ],
)
def test_a_misspelt_key_names_the_nearest(path: str, near: str) -> None:
    [problem] = problems(nested(path, 1))
    assert problem.field == path
    assert problem.message == f"unknown key; did you mean {near!r}?"
    assert problem.value == 1


@pytest.mark.parametrize("component", ["language", "video_encoder", "image_generator", "video_generator"])
@pytest.mark.parametrize("resources", [{"processes": 2}, {"gpus": 2}])
def test_balance_by_a_loss_is_for_a_single_process(component: str, resources: dict[str, int]) -> None:
    balance = nested(f"model.{component}.moe.balance", "aux_loss")
    [problem] = problems({**balance, "resources": {"device": "auto", **resources}})
    assert f"model.{component}.moe.balance is 'aux_loss'" in problem.message
    assert "set it to 'loss_free', or train with one process" in problem.message
    assert resolve("demo", balance).resources.num_processes == 1


def test_a_misspelt_key_in_a_list_names_its_place() -> None:
    source = {"name": "a", "category": "code", "path": "p", "wieght": 2.0}
    assert "data.sources.0.wieght: unknown key; did you mean 'weight'?" in str(
        problems({"data": {"sources": [source]}})[0]
    )


def test_a_key_unlike_any_gets_the_list() -> None:
    [problem] = problems({"evaluation": {"zzzz": 1}})
    assert problem.message == "unknown key; known here: max_per_dataset_eval, seed, shuffled"


def test_every_problem_is_told_at_once() -> None:
    found = problems({"training": {"max_steps": -1, "seed": "one", "nonsense": 1}})
    assert {problem.field for problem in found} == {"training.max_steps", "training.seed", "training.nonsense"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.max_steps", -1),
        ("training.max_steps", 0),
        ("training.max_steps", 1.5),
        ("training.max_steps", "100"),
        ("training.max_steps", True),
        ("training.bf16", 1),
        ("training.bf16", "yes"),
        ("training.learning_rate", "1e-4"),
        ("training.learning_rate", 0),
        ("training.learning_rate", math.inf),
        ("training.learning_rate", math.nan),
        ("training.lr_schedule", "cosin"),
        ("training", 3),
        ("training", None),
        ("training", [1]),
        ("data.sources", "demo:text"),
        ("data.sources", [1]),
        ("modalities.text.weight", -0.5),
        ("resources.device", "tpu"),
        ("model.language.moe.top_k", 99),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(path: str, value: Any) -> None:
    found = problems(nested(path, value))
    assert all(problem.field.startswith(path.rpartition(".")[0]) for problem in found)
    assert all(problem.message for problem in found)


@pytest.mark.parametrize("data", [None, 3, "training", [1, 2], {1: 2}, {"training": {3: 4}}, {None: 1}])
def test_what_is_no_mapping_of_names_is_refused(data: Any) -> None:
    with pytest.raises(ConfigError):
        RunConfig.parse(data)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"training": {"bf16": True, "fp16": True}}, "bf16 and fp16"),
        ({"training": {"max_seq_length": 8192}}, "max_position_embeddings 4096"),
        ({"modalities": {"image_generation": {"image_size": 72}}}, "not a multiple of 16"),
        ({"data": {"sources": []}}, "nothing is trained"),
        ({"data": {"sources": []}, "modalities": {"text": {"weight": 1.0}}}, "'text' has no data"),
        ({"model": {"image_generator": {"hidden_size": 150}}}, "not a multiple of 4 × num_heads"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides: dict[str, Any], words: str) -> None:
    assert any(words in str(problem) for problem in problems(overrides))


def test_components_that_are_not_built_may_have_any_size() -> None:
    source = {"name": "a", "category": "code", "path": "p"}
    config = resolve(None, {"model": {"language": {"num_layers": 2, "hidden_size": 40}}, "data": {"sources": [source]}})
    assert config.model.fusion.num_layers > config.model.language.num_layers


def test_two_sources_of_one_name_are_refused() -> None:
    source = {"name": "twice", "category": "code", "path": "p"}
    assert "'twice'" in str(problems({"data": {"sources": [source, source]}})[0])


def test_an_unknown_preset_names_the_nearest() -> None:
    [problem] = problems({}, preset="dmo")
    assert (problem.field, problem.message, problem.value) == ("preset", "unknown preset; did you mean 'demo'?", "dmo")
    assert "there are: " in problems({}, preset="../../etc/passwd")[0].message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E5", 2e5),
        ("-1e3", -1e3),
        ("+1e3", 1e3),
        ("1.5e-3", 1.5e-3),
        ("3", 3),
        ("1e", "1e"),
        ("e5", "e5"),
        ("'1e-4'", "1e-4"),
    ],
)
def test_numbers_in_yaml(text: str, value: Any) -> None:
    assert parse_yaml(f"x: {text}") == {"x": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_yaml(value: float) -> None:
    assert parse_yaml(to_yaml({"x": value})) == {"x": value}


def test_lists_become_tuples_and_come_back_as_lists() -> None:
    config = resolve("demo", {"modalities": {"text": {"sample_prompts": ["a", "b"]}}})
    assert config.modalities.text.sample_prompts == ("a", "b")
    assert config.to_dict()["modalities"]["text"]["sample_prompts"] == ["a", "b"]


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        resolve("demo").training.seed = 1  # type: ignore[misc]


def test_merging_replaces_lists_and_leaves_the_base_alone() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}, "b": {"c": 2}}) == {"a": {"x": 1, "y": [3]}, "b": {"c": 2}}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_a_weight_of_null_follows_the_sources() -> None:
    text = {"name": "words", "category": "code", "path": "p"}
    assert resolve("demo", {"data": {"sources": [text]}}).modality_weights() == {"text": 1.0}
    picture = {"name": "pictures", "category": "image_generation", "path": "p"}
    mixed = resolve("demo", {"data": {"sources": [text, picture]}, "modalities": {"text": {"weight": 0.5}}})
    assert mixed.modality_weights() == {"text": 0.5, "image_generation": 1.0}


@pytest.mark.parametrize(
    ("resources", "host_has_gpus", "gpus", "processes"),
    [
        ({}, False, 0, 1),
        ({}, True, 1, 1),
        ({"device": "cpu"}, True, 0, 1),
        ({"device": "cpu", "processes": 2}, True, 0, 2),
        ({"processes": 2}, False, 0, 2),
        ({"processes": 2}, True, 2, 2),
        ({"gpus": 2}, True, 2, 2),
        ({"gpus": 4, "processes": 4}, False, 4, 4),
        ({"device": "cuda"}, False, 1, 1),
    ],
)
def test_what_a_run_is_given(resources: dict[str, Any], host_has_gpus: bool, gpus: int, processes: int) -> None:
    asked = resolve("demo", {"resources": resources}).resources
    assert (asked.num_gpus(host_has_gpus=host_has_gpus), asked.num_processes) == (gpus, processes)


@pytest.mark.parametrize("resources", [{"device": "cpu", "gpus": 1}, {"gpus": 2, "processes": 3}])
def test_resources_that_contradict_each_other(resources: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"resources\.gpus"):
        resolve("demo", {"resources": resources})

"""`xoron doctor --model` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from xoron_core.cli import app
from xoron_core.contract.errors import ConfigError


def doctor(*words: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *words], env={"COLUMNS": "200"})


def told(*words: str) -> dict[str, Any]:
    result = doctor(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_preset_without_data_is_told_with_all_its_components() -> None:
    base = told("--model", "base")
    parts = {part["name"]: part for part in base["components"]}
    assert len(parts) == 16
    assert base["parameters"] == sum(part["parameters"] for part in parts.values())
    assert base["trained_parameters"] == base["parameters"] - parts["autoencoder"]["parameters"]
    assert parts["llm"]["active_parameters"] < parts["llm"]["parameters"]
    assert parts["vision_encoder"]["active_parameters"] == parts["vision_encoder"]["parameters"]
    assert base["table_rows"] % 128 == 0
    assert base["table_rows"] - 128 < base["vocab_size"] <= base["table_rows"]
    flops = base["flops_per_token"]
    assert flops["row_tokens"] == 1024
    assert flops["forward"] == flops["layers"] + flops["attention"] + flops["head"]
    assert flops["training"] == 3 * flops["forward"] + flops["layers"] + flops["attention"]
    memory = base["memory_bytes"]
    assert memory["total"] == sum(count for name, count in memory.items() if name != "total")


def test_for_people() -> None:
    text = doctor("--model", "small").stdout
    for words in (
        "waveform_decoder",
        "total",
        "parameters are trained",
        "FLOPs a token",
        "nothing is recomputed",
        "GiB",
    ):
        assert words in text


def test_a_file_and_values_laid_over(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "model: {tokenizer: demo}\ntraining: {max_seq_length: 512}\n"
        "data: {sources: [{name: words, category: document, path: words.jsonl}]}\n"
    )
    mine = told("--model", str(file))
    assert [part["name"] for part in mine["components"]] == ["llm"]
    assert mine["flops_per_token"]["row_tokens"] == 512
    larger = told("--model", str(file), "training.batch_size=4")
    assert larger["memory_bytes"]["activations"] == 4 * mine["memory_bytes"]["activations"]
    laid = told("--model", "small", str(file))
    assert laid["components"][0]["parameters"] < mine["components"][0]["parameters"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--model", "lage"], "did you mean 'large'"),
        (["--model", "nothing.yaml"], "nothing.yaml cannot be read"),
        (["--model", "base", "training.max_steps=-1"], "training.max_steps"),
    ],
)
def test_what_it_cannot_use(words: list[str], error: str) -> None:
    result = doctor(*words)
    assert isinstance(result.exception, ConfigError)
    assert error in str(result.exception)


def test_values_want_a_model() -> None:
    result = doctor("training.batch_size=4")
    assert result.exit_code == 2
    assert "say --model" in result.stderr

"""`xoron data check`: what is in a source, and what is wrong with it, before anything is trained."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xoron_core.cli import app


def check(home: Path, *words: str, status: int = 0) -> Any:
    """In this process, which has loaded what the command would take seconds to load."""
    told = CliRunner().invoke(app, ["data", "check", "--home", str(home), *words])
    assert told.exit_code == status, told.output
    return told


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A CSV whose columns have names of their own, with one row of which half is missing."""
    rows = [("frage", "antwort"), *((f"What is {n} + {n}?", str(2 * n)) for n in range(30)), ("And now?", "")]
    with (tmp_path / "sums.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    source: dict[str, Any] = {
        "name": "sums",
        "category": "conversation",
        "path": str(tmp_path / "sums.csv"),
        "split": "train[:-5]",
        "eval_split": "train[-5:]",
        "fields": {"question": "frage", "answer": "antwort"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"data": {"sources": [source]}}), encoding="utf-8")
    return path


def test_rows_are_shown_as_they_will_be_read(tmp_path: Path, config: Path) -> None:
    told = check(tmp_path, str(config), "--preset", "demo", "--show", "1", "--json")
    [found] = json.loads(told.stdout)
    assert (found["source"], found["modality"], found["rows"], found["tried"], found["bad"]) == (
        "sums",
        "text",
        26,
        26,
        {},
    )
    assert found["shown"][0]["text"].startswith("<|bos|><|user|>\nWhat is 0 + 0?\n<|/user|><|assistant|>\n0\n")
    assert found["mean_length"] > 10
    table = check(tmp_path, str(config), "--preset", "demo").stdout
    assert "sums" in table
    assert "conversation" in table


def test_what_cannot_be_read_is_counted_named_and_too_much_of_it_a_failure(tmp_path: Path, config: Path) -> None:
    told = check(tmp_path, str(config), "--preset", "demo", "data.max_bad_fraction=0.5", "--json")
    assert json.loads(told.stdout)[0]["bad"] == {}
    words = [str(config), "--preset", "demo", "--json"]
    text = config.read_text(encoding="utf-8").replace("train[:-5]", "train[-2:]")
    config.write_text(text, encoding="utf-8")
    [found] = json.loads(check(tmp_path, *words, status=1).stdout)
    assert found["bad"] == {"empty": 1}
    assert "sums[1]" in found["reasons"]["empty"]


def test_a_column_that_is_not_there_and_a_source_that_is_not_there_are_named(tmp_path: Path, config: Path) -> None:
    words = [str(config), "--preset", "demo"]
    assert "there are: sums" in str(check(tmp_path, *words, "--source", "sms", status=1).exception)
    config.write_text(config.read_text(encoding="utf-8").replace('"question"', '"qestion"'), encoding="utf-8")
    assert "data.sources.0.fields.qestion" in str(check(tmp_path, *words, status=1).exception)

"""`xoron export`: a checkpoint of a real run as a folder that loads, or an error that says what is in the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.attempts import begin
from support.tiny import tiny_config, tiny_corpus
from typer.testing import CliRunner

from xoron_core.cli import app
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import CheckpointError, ConfigError, RunDirectoryError, XoronError
from xoron_core.contract.run_directory import RunDirectory
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.export.pretrained import XoronModel
from xoron_core.training.checkpoint import read_checkpoint
from xoron_core.training.process import run_attempt


def trained(home: Path, overrides: dict[str, Any] | None = None) -> RunDirectory:
    config: RunConfig = tiny_config(tiny_corpus(home / "corpus"), overrides, max_steps=4, save_steps=2)
    run = begin(home, config)
    run_attempt(run, 1)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return trained(tmp_path_factory.mktemp("home"))


def export(*words: str | Path) -> dict[str, Any]:
    told = CliRunner().invoke(app, ["export", *map(str, words), "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    made: dict[str, Any] = json.loads(told.stdout)
    return made


def refusal(kind: type[XoronError], *words: str | Path) -> str:
    with pytest.raises(kind) as refused:
        export(*words)
    return str(refused.value)


def test_a_run_becomes_a_folder_that_loads(run: RunDirectory, tmp_path: Path) -> None:
    target = tmp_path / "made" / "tiny"
    made = export(run.id, target, "--home", run.path.parent.parent)
    assert (made["step"], made["what"], made["target"]) == (4, "model", str(target))
    assert made["files"] == sorted(path.name for path in target.iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert made["bytes"] == sum(path.stat().st_size for path in target.iterdir())
    loaded = XoronModel.from_pretrained(target).state_dict()
    saved = read_checkpoint(run.checkpoint_dir(4)).tensors["model"]
    assert loaded.keys() == saved.keys() and all(bool((loaded[name] == saved[name]).all()) for name in saved)
    assert Tokenizer.load(str(target)).encode("Hello") == Tokenizer.load("demo").encode("Hello")
    card = (target / "README.md").read_text()
    assert "# tiny\n" in card and "| optimizer steps | 4 |" in card and "## Held-out values at step 4" in card
    assert "- thoughts (chain_of_thought)\n- pictures (image_generation)" in card and "autoencoder: demo" in card
    assert str(run.path.parent.parent) not in "".join(path.read_text() for path in target.glob("*.json"))


def test_a_folder_of_a_run_or_a_checkpoint_will_do(run: RunDirectory, tmp_path: Path) -> None:
    assert export(run.path, tmp_path / "one")["step"] == 4
    made = export(run.checkpoint_dir(2), tmp_path / "two", "--max-shard-size", "100KB")
    assert made["step"] == 2 and "model.safetensors.index.json" in made["files"]
    assert XoronModel.from_pretrained(tmp_path / "two").components == {"llm", "generator", "autoencoder"}
    assert "at step" not in (tmp_path / "two" / "README.md").read_text()  # nothing was evaluated until then


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(run: RunDirectory, tmp_path: Path) -> None:
    assert "is there already" in refusal(ConfigError, run.path, tmp_path)
    assert "no run 'nothing'" in refusal(RunDirectoryError, "nothing", tmp_path / "x", "--home", tmp_path)
    assert "no adapters in the checkpoint" in refusal(ConfigError, run.path, tmp_path / "x", "--merge")
    assert "there are no adapters" in refusal(CheckpointError, run.path, tmp_path / "x", "--adapters")
    assert "write it like 5GB" in refusal(ConfigError, run.path, tmp_path / "x", "--max-shard-size", "much")
    assert list(tmp_path.iterdir()) == []


def test_a_byte_that_differs_is_refused_by_name(tmp_path: Path) -> None:
    run = trained(tmp_path)
    weights = run.checkpoint_dir(4) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert "model.safetensors is not as it was written" in refusal(CheckpointError, run.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_adapters_are_merged_or_written_alone(tmp_path: Path) -> None:
    run = trained(tmp_path, {"lora": {"use_lora": True, "r": 2}})
    assert "add --merge for the whole model, or --adapters" in refusal(ConfigError, run.path, tmp_path / "plain")
    made = export(run.path, tmp_path / "alone", "--adapters")
    assert made["what"] == "adapters" and made["files"] == ["adapter_config.json", "adapter_model.safetensors"]
    export(run.path, tmp_path / "whole", "--merge")
    merged = XoronModel.from_pretrained(tmp_path / "whole").state_dict()
    saved = read_checkpoint(run.checkpoint_dir(4)).tensors["model"]
    name = "llm.model.layers.0.attention.q_proj"
    low_rank = saved[f"{name}.lora_B.default.weight"] @ saved[f"{name}.lora_A.default.weight"]
    expected = saved[f"{name}.base_layer.weight"] + low_rank * (64.0 / 2**0.5)
    assert (merged[f"{name}.weight"] - expected).abs().max() < 1e-5 and low_rank.abs().max() > 0

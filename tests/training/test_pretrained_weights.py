"""Beginning from the weights of an exported model."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_models import perturb
from support.tiny import tiny_config, tiny_corpus
from torch import Tensor

from xoron_core.contract.errors import ConfigError
from xoron_core.data.tokenizer import Tokenizer
from xoron_core.export.pretrained import XoronModel
from xoron_core.export.weights import WEIGHTS_FILE
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def exported(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model without generator, unlike what any seed gives, in several files."""
    folder = tmp_path_factory.mktemp("exported")
    config = tiny_config(corpus).model
    model = XoronModel(config, frozenset({"llm"}), vocab_size=Tokenizer.load("demo").vocab_size)
    model.init_weights(torch.Generator().manual_seed(9))
    perturb(model)
    model.save_pretrained(folder, max_shard_size="300KB")
    assert not (folder / WEIGHTS_FILE).exists()
    return folder


def weights_at_start(corpus: Path, **model: Any) -> dict[str, Tensor]:
    lora = model.pop("lora", {})
    with ExitStack() as resources:
        config = tiny_config(corpus, {"model": model, "lora": lora})
        trainer = build_trainer(config, [], Control(), None, lambda phase: None, resources)
        return dict(trainer.model.state_dict())


def test_a_run_begins_with_what_was_exported(corpus: Path, exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = XoronModel.from_pretrained(exported).state_dict()
    from_seed = weights_at_start(corpus)
    caplog.set_level(logging.INFO)
    found = weights_at_start(corpus, pretrained=str(exported))
    for name, tensor in found.items():
        assert torch.equal(tensor, theirs.get(name, from_seed[name])), name
    assert any(not torch.equal(found[name], from_seed[name]) for name in theirs)
    assert f"weights from {exported}: llm; from the seed or files of their own: autoencoder, generator" in caplog.text


def test_adapters_go_on_top(corpus: Path, exported: Path) -> None:
    theirs = XoronModel.from_pretrained(exported).state_dict()
    found = weights_at_start(corpus, pretrained=str(exported), lora={"use_lora": True, "r": 2})
    assert all(torch.equal(found[name.replace(".weight", ".base_layer.weight")], theirs[name])
               for name in theirs if name.endswith("o_proj.weight"))  # fmt: skip


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"pretrained": "/nowhere/at/all"}, "no folder here"),
        ({"language": {"hidden_size": 64}}, "size mismatch"),
        ({"language": {"num_layers": 1}}, "Unexpected key"),
    ],
)
def test_what_does_not_fit_is_refused(corpus: Path, exported: Path, model: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        weights_at_start(corpus, **{"pretrained": str(exported), **model})
    assert [problem.field for problem in raised.value.problems] == ["model.pretrained"]


def test_a_damaged_file_is_named(corpus: Path, exported: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(
            path.read_bytes()[:-100] if path.suffix == ".safetensors" else path.read_bytes()
        )
    with pytest.raises(ConfigError, match=r"safetensors cannot be read"):
        weights_at_start(corpus, pretrained=str(tmp_path))

"""Options that do not go together are refused before a model is built, and the error says what to set."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.tiny import tiny_config, tiny_corpus

from xoron_core.contract.errors import ConfigError
from xoron_core.training.build import build_trainer
from xoron_core.training.control import Control


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


IN_THE_CONFIGURATION = {
    "two precisions": (
        {"training": {"bf16": True, "fp16": True}},
        "training", ("bf16", "fp16", "true", "set one of them to false"),
    ),
    "float16 weights, 8-bit moments": (
        {"training": {"model_dtype": "float16", "use_8bit_optimizer": True}},
        "training.use_8bit_optimizer", ("is true", "'float16'", "set training.use_8bit_optimizer to false"),
    ),
    "warm-up and decay overlap": (
        {"training": {"lr_schedule": "wsd", "warmup_ratio": 0.3, "decay_ratio": 0.8}},
        "training.decay_ratio", ("training.warmup_ratio 0.3", "training.decay_ratio 0.8", "lower one of them"),
    ),
    "an unknown component": (
        {"training": {"frozen_components": ["lllm"]}},
        "training.frozen_components.0", ("'llm'", "got 'lllm'"),
    ),
    "rows longer than positions": (
        {"training": {"max_seq_length": 512}, "model": {"language": {"max_position_embeddings": 256}}},
        "", ("training.max_seq_length 512", "256", "lower the one or raise the other"),
    ),
    "a shared balance loss": (
        {"resources": {"processes": 2}, "model": {"language": {"moe": {"balance": "aux_loss"}}}},
        "", ("'aux_loss'", "2 processes", "set it to 'loss_free'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(IN_THE_CONFIGURATION))
def test_the_configuration_is_refused(corpus: Path, case: str) -> None:
    overrides, field, words = IN_THE_CONFIGURATION[case]
    with pytest.raises(ConfigError) as refused:
        tiny_config(corpus, overrides)
    assert field in {problem.field for problem in refused.value.problems}
    for word in words:
        assert word in str(refused.value)


BEFORE_THE_MODEL = {
    "a frozen component that the run has not": (
        {"frozen_components": ["vision_encoder"]},
        "training.frozen_components", ("no vision_encoder", "autoencoder, generator, llm", "got ['vision_encoder']"),
    ),
    "a recomputed component that the run has not": (
        {"checkpointed_components": ["llm", "fusion"]},
        "training.checkpointed_components", ("no fusion", "take it out", "got ['llm', 'fusion']"),
    ),
    "nothing left": (
        {"frozen_components": ["llm", "generator"]},
        "training.frozen_components", ("text and image_generation", "take a component out of it", "got ['llm'"),
    ),
    "nothing left for a modality": (
        {"frozen_components": ["llm"]},
        "training.frozen_components", ("text could learn", "take a component out", "set modalities.text.weight to 0"),
    ),
}  # fmt: skip


def refusal(corpus: Path, training: dict[str, Any]) -> ConfigError:
    """What a trainer of this configuration is refused with; no phase begins in which a model would be built."""
    phases: list[str] = []
    with ExitStack() as resources, pytest.raises(ConfigError) as refused:
        build_trainer(tiny_config(corpus, **training), [], Control(), None, phases.append, resources)
    assert "model" not in phases
    return refused.value


@pytest.mark.parametrize("case", list(BEFORE_THE_MODEL))
def test_a_run_is_refused(corpus: Path, case: str) -> None:
    training, field, words = BEFORE_THE_MODEL[case]
    error = refusal(corpus, training)
    assert [problem.field for problem in error.problems] == [field]
    for word in words:
        assert word in str(error)


def test_an_8_bit_optimizer_that_is_not_installed(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    error = refusal(corpus, {"use_8bit_optimizer": True})
    assert str(error).startswith("training.use_8bit_optimizer: bitsandbytes is not installed; install it")
    assert "set training.use_8bit_optimizer to false (got True)" in str(error)


def test_a_recomputed_component_without_layers_takes_no_memory(corpus: Path) -> None:
    phases: list[str] = []
    config = tiny_config(corpus, gradient_checkpointing=True, checkpointed_components=["autoencoder"])
    with ExitStack() as resources, pytest.raises(ConfigError, match="autoencoder has no stack of layers here"):
        build_trainer(config, [], Control(), None, phases.append, resources)
    assert phases[-1] == "model"

"""Presets: each is a whole configuration once it has data, and says for what machine."""

from typing import Any

import pytest

from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.files import model_to_yaml, parse_yaml
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.presets import preset_config, preset_names, resolve, resolve_without_data

WITHOUT_DATA = ("base", "large", "small")
WORDS: dict[str, Any] = {"data": {"sources": [{"name": "words", "category": "document", "path": "words.jsonl"}]}}


def test_the_presets_there_are() -> None:
    assert preset_names() == ["base", "demo", "large", "small"]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_with_data_is_whole_and_survives_its_file(name: str) -> None:
    config = resolve(name, {} if name == "demo" else WORDS)
    assert RunConfig.parse(config.to_dict()) == config
    assert RunConfig.parse(parse_yaml(model_to_yaml(config))) == config
    assert config.modality_weights()


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_without_data_a_preset_names_what_is_missing(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name)
    [problem] = caught.value.problems
    assert problem.field == "data.sources"
    assert "nothing is trained: give data.sources a source, as in [{name:" in problem.message


@pytest.mark.parametrize("name", preset_names())
def test_every_modality_fits_the_model(name: str) -> None:
    config = resolve_without_data(name)
    assert list(config.modality_weights()) == list(modality_infos())


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_a_preset_is_listed_without_sources_and_goes_on_from_there(name: str) -> None:
    listed = preset_config(name)
    assert listed["data"]["sources"] == []
    listed["data"] = WORDS["data"]
    assert RunConfig.parse(listed) == resolve(name, WORDS)


def test_the_demo_is_listed_as_it_is() -> None:
    assert preset_config("demo") == resolve("demo").to_dict() == resolve_without_data("demo").to_dict()


def test_base_is_the_defaults() -> None:
    assert resolve("base", WORDS) == RunConfig.parse(WORDS)


def test_other_problems_are_told_without_data_too() -> None:
    with pytest.raises(ConfigError, match=r"training\.max_steps"):
        resolve_without_data("base", {"training": {"max_steps": -1}})
    with pytest.raises(ConfigError, match=r"^data: "):
        resolve_without_data("base", {"data": 3})


def test_sizes_of_pictures_and_clips() -> None:
    sizes = {}
    for name in preset_names():
        config = resolve_without_data(name)
        made, seen = config.modalities, config.model.vision_encoder
        frames = (made.video_understanding.num_frames, made.video_generation.num_frames)
        sizes[name] = (seen.image_size, made.image_generation.image_size, made.video_generation.video_size, frames)
    assert sizes == {
        "demo": (64, 64, 64, (8, 8)),
        "small": (128, 128, 128, (8, 8)),
        "base": (384, 256, 256, (8, 16)),
        "large": (512, 512, 512, (32, 16)),
    }


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_heads_of_the_language_model_suit_flash_kernels(name: str) -> None:
    """Equal widths for query, key and value, which are powers of two."""
    language = resolve_without_data(name).model.language
    assert language.qk_nope_head_dim + language.qk_rope_head_dim == language.v_head_dim == language.head_dim == 64
    assert language.num_heads * language.head_dim == language.hidden_size


def test_large_is_as_specified() -> None:
    language = resolve_without_data("large").model.language
    assert (language.hidden_size, language.num_layers, language.moe.num_experts) == (2048, 24, 16)

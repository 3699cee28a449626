"""docs/model.md tells true numbers."""

import re
from pathlib import Path

import pytest

from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.presets import resolve_without_data
from xoron_core.modalities.registry import MODALITIES
from xoron_core.training.sizing import ModelSize, measure_model

PAGE = (Path(__file__).parents[2] / "docs" / "model.md").read_text(encoding="utf-8")
PRESETS = ("demo", "small", "base", "large")


@pytest.fixture(scope="module")
def sizes() -> dict[str, ModelSize]:
    return {name: measure_model(resolve_without_data(name)) for name in PRESETS}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below that heading row."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = lines[: next(index for index, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def millions(count: float) -> str:
    return f"{count / 1e6:,.2f}"


def true_rows(sizes: dict[str, ModelSize]) -> list[list[str]]:
    parts = {name: {part.name: part for part in size.components} for name, size in sizes.items()}
    table = [
        [f"`{component}`", *(millions(parts[name][component].parameters) for name in PRESETS)]
        for component in parts["base"]
    ]
    every = {name: list(parts[name].values()) for name in PRESETS}
    table.append(["all", *(millions(sum(part.parameters for part in every[name])) for name in PRESETS)])
    table.append(["`llm`, active", *(millions(parts[name]["llm"].active_parameters) for name in PRESETS)])
    table.append(["all, active", *(millions(sum(part.active_parameters for part in every[name])) for name in PRESETS)])
    table.append(["MFLOPs a token", *(millions(sizes[name].flops.forward) for name in PRESETS)])
    return table


def test_parameters_and_flops(sizes: dict[str, ModelSize]) -> None:
    told, true = rows("| component |"), true_rows(sizes)
    assert told == true, "the page should say\n" + "\n".join("| " + " | ".join(row) + " |" for row in true)


def test_what_the_presets_are_for(sizes: dict[str, ModelSize]) -> None:
    for row, name in zip(rows("| preset | for |"), PRESETS, strict=True):
        config = resolve_without_data(name)
        made = config.modalities
        assert row[0] == f"`{name}`"
        assert row[2] == f"{config.model.vision_encoder.image_size} · {made.image_generation.image_size} px"
        assert row[3] == f"{made.video_understanding.num_frames} · {made.video_generation.num_frames}"
        assert row[4] == f"{config.training.max_seq_length:,} tokens"
    small = sizes["small"]
    assert f"{small.table_rows:,} rows of {resolve_without_data('small').model.language.hidden_size}" in PAGE


def test_small_is_of_its_size(sizes: dict[str, ModelSize]) -> None:
    assert sum(part.parameters for part in sizes["small"].components) == pytest.approx(150e6, rel=0.05)
    assert sizes["small"].memory.total < 20e9
    assert sizes["base"].memory.total < 40e9
    assert sizes["large"].memory.total < 70 * 2**30


def test_components_of_the_modalities() -> None:
    told = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in rows("| modality | components |")}
    labels = {name: info.label.lower() for name, info in modality_infos().items()}
    assert told == {labels[cls.name]: set(cls.components) for cls in MODALITIES}


def test_fields_that_it_names_exist() -> None:
    """Names between backticks that look like fields are fields, components or values of the configuration."""
    schema = str(resolve_without_data("base").model_json_schema())
    names = {name for text in re.findall(r"`([a-z_.]+)`", PAGE) for name in text.split(".") if "_" in name}
    components = {name for cls in MODALITIES for name in cls.components}
    assert [name for name in sorted(names - components) if f"'{name}'" not in schema] == []

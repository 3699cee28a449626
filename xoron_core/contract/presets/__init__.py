"""Named starting points: each a YAML file here that is laid over `RunConfig`'s defaults.

Only `demo` brings data. The others say what is built and how it is trained; `data.sources` is the user's to give.
"""

import difflib
from importlib.resources import files
from typing import Any

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.files import parse_yaml
from xoron_core.contract.modalities import modality_infos


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(entry.name[: -len(".yaml")] for entry in files(__name__).iterdir() if entry.name.endswith(".yaml"))


def preset_overrides(name: str) -> dict[str, Any]:
    """What a preset says beyond the defaults.

    Raises: ConfigError naming the nearest preset when there is none of that name.
    """
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
        raise ConfigError.of("preset", f"unknown preset; {hint}", name)
    data: dict[str, Any] | None = parse_yaml((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return data or {}


def resolve(preset: str | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """The configuration of a preset with overrides on top.

    Raises: ConfigError with every problem found; that no source is given is one of them.
    """
    base = {} if preset is None else preset_overrides(preset)
    return RunConfig.parse(merge(base, overrides or {}))


def resolve_without_data(preset: str | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """The same for who only wants to know sizes: where no source is given, every modality has one that does not exist.

    Raises: ConfigError with every other problem found.
    """
    base = {} if preset is None else preset_overrides(preset)
    config = merge(base, overrides or {})
    data = config.get("data", {})
    if isinstance(data, dict) and not data.get("sources"):
        stand_ins = [
            {"name": info.name, "category": info.categories[0], "path": "not-given.jsonl"}
            for info in modality_infos().values()
        ]
        config = merge(config, {"data": {"sources": stand_ins}})
    return RunConfig.parse(config)


def preset_config(name: str) -> dict[str, Any]:
    """A preset laid over the defaults, as plain data, to begin a configuration from; without sources of its own it has
    none.

    Raises: ConfigError naming the nearest preset when there is none of that name.
    """
    config = resolve_without_data(name).to_dict()
    sources = preset_overrides(name).get("data", {}).get("sources", [])
    return config if sources else merge(config, {"data": {"sources": []}})

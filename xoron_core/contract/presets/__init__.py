"""Named starting points: each a YAML file here that is laid over `RunConfig`'s defaults."""

import difflib
from importlib.resources import files
from typing import Any

from xoron_core.contract.config.run import RunConfig, merge
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.files import parse_yaml


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
    data: dict[str, Any] = parse_yaml((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return data


def resolve(preset: str | None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """The configuration of a preset with overrides on top.

    Raises: ConfigError with every problem found.
    """
    base = {} if preset is None else preset_overrides(preset)
    return RunConfig.parse(merge(base, overrides or {}))

"""Options that several subcommands share, and the words `CONFIG.yaml key=value …`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_HOME = Path("~/.local/share/xoron")
_OVERRIDE = re.compile(r"^([A-Za-z_]\w*(?:\.\w+)*)=(.*)$", re.DOTALL)

Home = Annotated[Path, typer.Option(envvar="XORON_HOME", help="Folder of runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Preset = Annotated[str | None, typer.Option(help="Named starting point, e.g. demo.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [KEY=VALUE]...", help="A configuration file, then single values laid over."),
]
Url = Annotated[str, typer.Option(envvar="XORON_URL", help="Address of the server.")]
Token = Annotated[
    str | None, typer.Option(envvar="XORON_TOKEN", help="Token of the server; better set in the environment.")
]


def overrides(words: list[str]) -> dict[str, Any]:
    """The configuration that `CONFIG.yaml key=value …` spell, as nested plain data.

    Raises: ConfigError for a file that cannot be read, two files, or words that are neither.
    """
    from xoron_core.contract.config.run import merge
    from xoron_core.contract.errors import ConfigError

    config: dict[str, Any] = {}
    files = [word for word in words if not _OVERRIDE.match(word)]
    if len(files) > 1:
        raise ConfigError.of("", f"{files[1]!r} is neither key=value nor the one configuration file ({files[0]})")
    for file in files:
        config = _read(Path(file))
    for word in words:
        if match := _OVERRIDE.match(word):
            config = merge(config, _nested(match[1].split("."), _value(match[1], match[2])))
    return config


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    return {first: _nested(rest, value) if rest else value}


def _value(key: str, text: str) -> Any:
    from yaml import YAMLError

    from xoron_core.contract.errors import ConfigError
    from xoron_core.contract.files import parse_yaml

    try:
        return parse_yaml(text)
    except YAMLError as error:
        raise ConfigError.of(key, f"is not a YAML value: {error}", text) from error


def _read(path: Path) -> dict[str, Any]:
    from yaml import YAMLError

    from xoron_core.contract.errors import ConfigError
    from xoron_core.contract.files import parse_yaml

    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError.of(
            "", f"configuration file {path} cannot be read ({error.strerror}); single values are given as key=value"
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError.of("", f"configuration file {path} is not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError.of("", f"configuration file {path} holds no sections", data)
    return data

"""Where the rows of a source lie on disk, told alike to the server, which checks, and to the trainer, which reads."""

from importlib.resources import files
from pathlib import Path

from xoron_core.contract.config.data import SourceConfig
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError, FieldProblem

DEMO_PREFIX = "demo:"


def demo_corpus() -> Path:
    """The folder of the corpus that is shipped with the package."""
    return Path(str(files("xoron_core"))) / "data" / "demo"


def split_file(source: SourceConfig, split: str) -> Path:
    """The JSONL file that holds the rows of a split."""
    if source.path.startswith(DEMO_PREFIX):
        return demo_corpus() / source.path.removeprefix(DEMO_PREFIX) / f"{split}.jsonl"
    return Path(source.path).expanduser() / f"{split}.jsonl"


def check_sources(config: RunConfig) -> None:
    """See that the files of every source of an enabled modality exist and are not empty.

    Raises: ConfigError naming each source at fault, the file looked for and what to do.
    """
    problems = [
        problem
        for modality in config.modality_weights()
        for index in config.sources_of(modality)
        for problem in _check(index, config.data.sources[index])
    ]
    if problems:
        raise ConfigError(problems)


def _check(index: int, source: SourceConfig) -> list[FieldProblem]:
    problems = []
    for field, split in (("split", source.split), ("eval_split", source.eval_split)):
        if split is None:
            continue
        path = split_file(source, split)
        if not path.is_file():
            message = f"source {source.name!r} has no file {path}; put it there, or change path or {field}"
            problems.append(FieldProblem(f"data.sources.{index}.path", message, source.path))
        elif path.stat().st_size == 0:
            message = f"source {source.name!r}: {path} is empty; it needs one row at least"
            problems.append(FieldProblem(f"data.sources.{index}.path", message, source.path))
    return problems

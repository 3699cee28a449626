"""`xoron export`: a checkpoint as a folder in the Hugging Face layout."""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xoron_core.cli.options import DEFAULT_HOME, Home, Json

if TYPE_CHECKING:
    from torch import Tensor

    from xoron_core.contract.config.run import RunConfig
    from xoron_core.data.tokenizer import Tokenizer
    from xoron_core.export.card import HeldOut
    from xoron_core.export.description import ModelDescription

_SIZE = re.compile(r"\d+(\.\d+)?[KMGT]?B")


def export(
    source: Annotated[str, typer.Argument(help="A run's id or folder (its newest checkpoint), or a checkpoint.")],
    target: Annotated[Path, typer.Argument(help="Folder to make; there may be none of that name yet.")],
    home: Home = DEFAULT_HOME,
    max_shard_size: Annotated[str, typer.Option(help="Files of weights are split so that none is larger.")] = "5GB",
    *,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add what adapters have learned to the weights they are on.")
    ] = False,
    adapters: Annotated[bool, typer.Option("--adapters", help="Write the adapters alone, as peft reads them.")] = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint's model, tokenizer and model card; optimizer and data position stay behind.

    The checkpoint is compared with its manifest first. One with adapters needs --merge or --adapters.
    """
    from xoron_core.contract.errors import ConfigError

    if merge and adapters:
        raise ConfigError.of("--merge", "merged adapters are gone; leave out --merge or --adapters")
    if not _SIZE.fullmatch(max_shard_size):
        raise ConfigError.of("--max-shard-size", "is no size; write it like 5GB or 500MB", max_shard_size)
    if target.exists() or target.is_symlink():
        raise ConfigError.of("target", "is there already; give another name, or remove it", str(target))
    checkpoint = _find(source, home)
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = _write(checkpoint, target.absolute(), max_shard_size, merge=merge, adapters=adapters)
    except OSError as error:
        raise ConfigError.of("target", f"cannot be written: {error}", str(target)) from error
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        typer.echo(
            f"{target}: {made['what']} of step {made['step']}, {made['bytes']:,} bytes in {len(made['files'])} files"
        )


def _find(source: str, home: Path) -> Path:
    """The checkpoint that is meant. Raises: RunDirectoryError when there is none."""
    from xoron_core.contract.errors import RunDirectoryError
    from xoron_core.contract.home import Home as HomeFolder
    from xoron_core.contract.run_directory import RunDirectory
    from xoron_core.training.checkpoint import MANIFEST, complete_checkpoints

    path = Path(source).expanduser()
    if (path / MANIFEST).is_file():
        return path.absolute()
    is_run = (path / "run.json").is_file()
    run = RunDirectory(path.absolute()) if is_run else HomeFolder(home).run(source)
    found = complete_checkpoints(run.checkpoints)
    if not found:
        raise RunDirectoryError(f"run {run.id} has no complete checkpoint yet")
    return found[-1]


def _write(checkpoint: Path, target: Path, max_shard_size: str, *, merge: bool, adapters: bool) -> dict[str, Any]:
    """Make the folder under another name first, so that half of it never has the one that was asked for."""
    from xoron_core.training.checkpoint import verify_checkpoint

    verify_checkpoint(checkpoint)
    making = target.with_name(f".{target.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        if adapters:
            from xoron_core.training.adapters.files import export_adapters

            export_adapters(checkpoint, making)
        else:
            _write_model(checkpoint, making, target.name, max_shard_size, merge=merge)
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    files = sorted(path for path in target.iterdir())
    return {
        "checkpoint": str(checkpoint),
        "step": _state(checkpoint)["step"],
        "what": "adapters" if adapters else "model",
        "target": str(target),
        "bytes": sum(path.stat().st_size for path in files),
        "files": [path.name for path in files],
    }


def _write_model(checkpoint: Path, folder: Path, name: str, max_shard_size: str, *, merge: bool) -> None:
    from xoron_core.contract.config.run import RunConfig
    from xoron_core.contract.files import parse_yaml
    from xoron_core.data.tokenizer import Tokenizer
    from xoron_core.export.card import ModelCard, Progress
    from xoron_core.export.files import write_files
    from xoron_core.export.weights import write_weights

    config = RunConfig.parse(parse_yaml((checkpoint / "config.yaml").read_text(encoding="utf-8")))
    tokenizer = Tokenizer.load(config.model.tokenizer)
    description = _describe(checkpoint, config, tokenizer)
    write_weights(folder, _weights(checkpoint, description, config, merge=merge), max_shard_size)
    state = _state(checkpoint)
    progress = Progress(state["step"], state["tokens"], state["samples"])
    card = ModelCard(name, description, config, progress, _held_out(checkpoint, progress.step))
    write_files(folder, description, tokenizer, card.render())


def _describe(checkpoint: Path, config: "RunConfig", tokenizer: "Tokenizer") -> "ModelDescription":
    """The model by its tensors' names. Raises: CheckpointError."""
    from safetensors import safe_open

    from xoron_core.contract.errors import CheckpointError
    from xoron_core.export.description import ModelDescription
    from xoron_core.export.files import special_ids
    from xoron_core.export.weights import EMBEDDING, find_weights
    from xoron_core.model.autoencoder import AutoencoderConfig

    found = find_weights(checkpoint)
    components = frozenset(name.partition(".")[0] for name in found)
    if EMBEDDING not in found:
        raise CheckpointError(f"{checkpoint} holds no language model: {', '.join(sorted(components))}")
    with safe_open(found[EMBEDDING], framework="pt") as file:
        dtype = str(file.get_tensor(EMBEDDING).dtype).removeprefix("torch.")
    return ModelDescription(
        config.model, components, tokenizer.vocab_size, AutoencoderConfig(), special_ids(tokenizer), dtype
    )


def _weights(
    checkpoint: Path, description: "ModelDescription", config: "RunConfig", *, merge: bool
) -> "dict[str, Tensor]":
    """Raises: CheckpointError for tensors that are not the model's, ConfigError for adapters that are not asked for."""
    from safetensors.torch import load_file

    from xoron_core.contract.errors import ConfigError
    from xoron_core.export.weights import WEIGHTS_FILE, check_weights, find_weights
    from xoron_core.training.adapters.lora import is_adapter
    from xoron_core.training.merged_weights import merged_weights

    found = find_weights(checkpoint)
    if any(is_adapter(name) for name in found):
        if not merge:
            raise ConfigError.of(
                "source", "has adapters; add --merge for the whole model, or --adapters for them alone", str(checkpoint)
            )
        return merged_weights(checkpoint / WEIGHTS_FILE, description, config.lora)
    if merge:
        raise ConfigError.of("--merge", "there are no adapters in the checkpoint; leave it out", str(checkpoint))
    check_weights(description.build(), found)
    return load_file(checkpoint / WEIGHTS_FILE)


def _state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's counters."""
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["trainer"]
    return state


def _held_out(checkpoint: Path, step: int) -> "HeldOut | None":
    """The newest evaluation up to a step, where the checkpoint still lies in its run."""
    from xoron_core.contract.tailer import EventTailer
    from xoron_core.export.card import HeldOut

    run = checkpoint.parent.parent
    if not (run / "run.json").is_file():
        return None
    newest = None
    with EventTailer(run) as tailer:
        while batch := tailer.poll():
            for record in batch:
                if record["kind"] == "eval" and record["step"] <= step:
                    newest = HeldOut(record["step"], record["values"])
    return newest

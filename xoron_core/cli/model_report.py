"""`xoron doctor --model`: how large a configuration's model is, what a token costs, what memory training takes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xoron_core.cli.options import overrides

if TYPE_CHECKING:
    from rich.table import Table

    from xoron_core.contract.config.run import RunConfig
    from xoron_core.training.sizing import ModelSize

_GIB = 2**30
_MEMORY_LABELS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "casts": "weights as cast",
    "activations": "activations of text",
    "cross_entropy": "cross-entropy",
    "total": "total",
}


def report_model(model: str, words: list[str], *, as_json: bool) -> None:
    """Print the sizes of a preset, or of a configuration file, with `words` laid over as for `xoron train`.

    Raises: ConfigError for a configuration that cannot be used, or a tokenizer that cannot be had.
    """
    from xoron_core.contract.presets import preset_names, resolve_without_data
    from xoron_core.training.sizing import measure_model

    is_preset = model in preset_names() or not (Path(model).is_file() or Path(model).suffix)
    config = resolve_without_data(model if is_preset else None, overrides(words if is_preset else [model, *words]))
    size = measure_model(config)
    gpus = _gpus()
    if as_json:
        typer.echo(json.dumps(_plain(model, config, size, gpus), indent=2))
    else:
        _show(config, size, gpus)


def _gpus() -> list[tuple[str, int]]:
    """Name and memory of the GPUs that torch sees here."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [(properties.name, properties.total_memory) for properties in found]


def _plain(model: str, config: "RunConfig", size: "ModelSize", gpus: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "model": model,
        "tokenizer": config.model.tokenizer,
        "vocab_size": size.vocab_size,
        "table_rows": size.table_rows,
        "components": [asdict(component) for component in size.components],
        "parameters": _totals(size)[0],
        "active_parameters": _totals(size)[1],
        "trained_parameters": size.num_trained,
        "flops_per_token": {
            "row_tokens": size.row_tokens,
            **size.flops._asdict(),
            "forward": size.flops.forward,
            "training": size.training_flops,
        },
        "memory_bytes": {**asdict(size.memory), "total": size.memory.total},
        "gpus": [{"name": name, "memory_bytes": memory} for name, memory in gpus],
    }


def _totals(size: "ModelSize") -> tuple[int, int, int]:
    """Parameters, those that a token meets, bytes."""
    return (
        sum(component.parameters for component in size.components),
        sum(component.active_parameters for component in size.components),
        sum(component.weight_bytes for component in size.components),
    )


def _show(config: "RunConfig", size: "ModelSize", gpus: list[tuple[str, int]]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_components(size))
    vocabulary = f"vocabulary {size.vocab_size:,} (tokenizer {config.model.tokenizer})"
    console.print(f"\n{size.num_trained:,} parameters are trained; {vocabulary}", soft_wrap=True)
    console.print(f"\nLanguage model, FLOPs a token in rows of {size.row_tokens:,}:")
    flops = size.flops
    console.print(f"  forward   {_flops(flops.forward)}  (layers {_flops(flops.layers)}, attention ", end="")
    console.print(f"{_flops(flops.attention)}, head {_flops(flops.head)})")
    how = "layers are recomputed" if size.training_flops > flops.training() else "nothing is recomputed"
    console.print(f"  training  {_flops(size.training_flops)}  ({how})")
    console.print("\nMemory of training on one GPU, about (media come on top):")
    for name, count in [*asdict(size.memory).items(), ("total", size.memory.total)]:
        console.print(f"  {_MEMORY_LABELS[name]:<20} {count / _GIB:8.2f} GiB")
    for name, memory in gpus:
        verdict = "enough for that" if memory > size.memory.total else "too little"
        console.print(f"  {name} here has {memory / _GIB:.1f} GiB: {verdict}")


def _components(size: "ModelSize") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("component")
    for heading in ("parameters", "active a token", "MiB"):
        table.add_column(heading, justify="right")
    rows = [(part.name, part.parameters, part.active_parameters, part.weight_bytes) for part in size.components]
    for name, parameters, active, weight_bytes in [*rows, ("total", *_totals(size))]:
        table.add_row(name, f"{parameters:,}", f"{active:,}", f"{weight_bytes / 2**20:,.1f}")
    return table


def _flops(count: float) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"

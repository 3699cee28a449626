"""The JSON Schemas of the contract, one document for each file format and body; `make schemas` writes them down."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from xoron_core.contract import api
from xoron_core.contract.commands import Command
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.events import StampedEvent
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.run_directory import AttemptRecord, ExitRecord, KeeperRecord, RunRecord
from xoron_core.contract.states import TRANSITIONS


def documents() -> dict[str, Any]:
    """Name → JSON Schema (or table) of everything that another program may read."""
    bodies = [
        value
        for value in vars(api).values()
        if isinstance(value, type) and issubclass(value, api.ApiModel) and value is not api.ApiModel
    ]
    return {
        "run_config": RunConfig.model_json_schema(),
        "run_directory": _schemas([RunRecord, AttemptRecord, KeeperRecord, ExitRecord, Command]),
        "events": _schemas([StampedEvent, *StampedEvent.KNOWN.values()]),
        "api": _schemas(bodies),
        "states": {old.value: sorted(new.value for new in allowed) for old, allowed in TRANSITIONS.items()},
        "modalities": [info.to_dict() for info in modality_infos().values()],
    }


def _schemas(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    return {model.__name__: model.model_json_schema() for model in models}


def write(directory: Path) -> None:
    """Write every document to `directory`, one JSON file each."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in documents().items():
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

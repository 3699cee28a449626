"""REST about the server itself: what it offers, what it runs on."""

import importlib.metadata
import importlib.util
import os
import socket
from typing import Annotated

import psutil
from fastapi import APIRouter, Depends

from server.errors import problem_fields
from server.runs import store
from server.services import Services, services
from xoron_core.contract import CONTRACT_VERSION
from xoron_core.contract.api import (
    CreateRun,
    Preset,
    PresetPage,
    SchemaDocument,
    SystemInfo,
    ValidationResult,
)
from xoron_core.contract.config.run import RunConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.contract.modalities import modality_infos
from xoron_core.contract.presets import preset_config, preset_names
from xoron_core.contract.states import TRANSITIONS

router = APIRouter(tags=["system"])
Opened = Annotated[Services, Depends(services)]


@router.get("/presets")
def list_presets() -> PresetPage:
    """Named starting points; one that has no `data.sources` needs them given."""
    return PresetPage(items=[Preset(name=name, config=preset_config(name)) for name in preset_names()])


@router.get("/schema")
def show_schema() -> SchemaDocument:
    """All that a form, a chart or a table needs to know."""
    return SchemaDocument(
        contract_version=CONTRACT_VERSION,
        config=RunConfig.model_json_schema(),
        modalities=list(modality_infos().values()),
        transitions={old: sorted(allowed) for old, allowed in TRANSITIONS.items()},
    )


@router.post("/validate")
def validate_config(body: CreateRun, opened: Opened) -> ValidationResult:
    """Whether `POST /runs` would take this; nothing is created."""
    try:
        config = opened.runs.validate(body)
    except ConfigError as error:
        return ValidationResult(valid=False, config=None, errors=problem_fields(error.problems))
    return ValidationResult(valid=True, config=config.to_dict(), errors=[])


@router.get("/system")
def show_system(opened: Opened) -> SystemInfo:
    """The machine."""
    memory = psutil.virtual_memory()
    with opened.database.read() as connection:
        live_runs = len(store.live_ids(connection))
    return SystemInfo(
        version=importlib.metadata.version("xoron"),
        home=str(opened.home.path),
        hostname=socket.gethostname(),
        cpu_count=os.cpu_count() or 1,
        cpu_percent=opened.cpu.percent(),
        memory_total=memory.total,
        memory_used=memory.total - memory.available,
        disk_free=psutil.disk_usage(str(opened.home.path)).free,
        gpus=opened.pool.shown(),
        torch_installed=importlib.util.find_spec("torch") is not None,
        max_runs=opened.settings.max_runs,
        live_runs=live_runs,
    )

"""REST about the server itself: what it offers, what it runs on, whether it is well."""

import importlib.metadata
import importlib.util
import os
import socket
from http import HTTPStatus
from typing import Annotated

import psutil
from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from server import db
from server.errors import HttpError, problem_fields
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
from xoron_core.contract.presets import preset_names, resolve
from xoron_core.contract.states import TRANSITIONS

router = APIRouter(tags=["system"])
health = APIRouter(tags=["health"])
Opened = Annotated[Services, Depends(services)]


class NotReadyError(HttpError):
    """The server cannot do its work."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


@router.get("/presets")
def list_presets() -> PresetPage:
    """Named starting points."""
    return PresetPage(items=[Preset(name=name, config=resolve(name).to_dict()) for name in preset_names()])


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
        gpus=[],
        torch_installed=importlib.util.find_spec("torch") is not None,
        max_runs=opened.settings.max_runs,
        live_runs=live_runs,
    )


@health.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz(opened: Opened) -> dict[str, str]:
    """Every part works."""
    troubles = []
    if not opened.ingest.is_alive:
        troubles.append("the thread that reads events has died; restart the server")
    elif not opened.ingest.has_caught_up.is_set():
        troubles.append("the index is still catching up with the run directories")
    if not opened.scheduler.is_alive:
        troubles.append("the thread that launches runs has died; restart the server")
    if not os.access(opened.home.runs, os.W_OK):
        troubles.append("the home cannot be written")
    try:
        with opened.database.read() as connection:
            connection.scalar(select(db.meta.c.version))
    except SQLAlchemyError as error:
        troubles.append(f"the index cannot be read ({type(error).__name__}); restart the server to rebuild it")
    if troubles:
        raise NotReadyError("; ".join(troubles))
    return {"status": "ready"}

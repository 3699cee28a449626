"""The application, as a table of contents, and the function that serves it."""

import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import APIRouter, FastAPI

import server.auth.routes
import server.checkpoints.routes
import server.metrics.routes
import server.pages
import server.runs.queue_routes
import server.runs.routes
import server.samples.routes
import server.stream.routes
import server.system.health
import server.system.routes
from server import errors, openapi
from server.auth.door import Door
from server.auth.limits import BodyLimit
from server.db import check_url
from server.errors import ServeError
from server.gpus.inventory import Inventory, open_inventory
from server.runs.dispatcher import Launch
from server.runs.launchers.local import launch as launch_locally
from server.services import open_services
from server.settings import WILDCARDS, Settings
from server.stream.hub import RING_BYTES
from xoron_core.contract.home import Home, ServerLock

log = logging.getLogger(__name__)

PREFIX = "/api/v1"


def create_app(
    settings: Settings,
    *,
    launch: Launch = launch_locally,
    inventory: Inventory | None = None,
    ring_bytes: int = RING_BYTES,
) -> FastAPI:
    """The service over one home; what the lifespan opens it closes.

    `launch` starts keepers; `inventory` are the GPUs (null: those that the settings allow), closed at the end;
    `ring_bytes` is what a stream remembers of each watched run.

    Raises: ServeError when the settings would leave the door open.
    """
    check_door(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gpus = inventory or open_inventory(settings.gpus)
        app.state.services = await open_services(settings, launch, gpus, ring_bytes)
        try:
            yield
        finally:
            app.state.services.close()

    app = FastAPI(
        title="Xoron training server",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        generate_unique_id_function=openapi.operation_id,
    )
    api = APIRouter(prefix=PREFIX, responses=openapi.PROBLEMS)
    for part in (
        server.runs.routes,
        server.runs.queue_routes,
        server.metrics.routes,
        server.samples.routes,
        server.checkpoints.routes,
        server.stream.routes,
        server.system.routes,
        server.auth.routes,
    ):
        api.include_router(part.router)
    app.include_router(api)
    app.include_router(server.system.health.router)
    app.include_router(server.pages.router)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Door, settings=settings)
    return app


def check_door(settings: Settings) -> None:
    """Let pass settings under which strangers stay out.

    Raises: ServeError for an address that others can reach, without a token.
    """
    if not settings.is_loopback and settings.token is None:
        raise ServeError(
            f"host {settings.host} can be reached by other machines: set XORON_TOKEN to a secret of your own, "
            "or serve on 127.0.0.1"
        )


def serve(settings: Settings, *, launch: Launch = launch_locally) -> None:
    """Serve until SIGTERM or SIGINT; runs live on.

    Raises: ServeError, RunDirectoryError, ConfigError saying why it cannot begin and what to change.
    """
    app = create_app(settings, launch=launch)
    home = Home(settings.home)
    home.prepare()
    check_url(settings.index_url)
    open_inventory(settings.gpus).close()
    ServerLock(home).release()  # these three are asked here for a clear answer; the lifespan opens them
    listener = _listen(settings)
    port = listener.getsockname()[1]
    name = "127.0.0.1" if settings.host in WILDCARDS else settings.host
    log.info("serving %s on http://%s:%s", home.path, f"[{name}]" if ":" in name else name, port)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3, server_header=False)
    running = uvicorn.Server(config)
    with listener:
        running.run(sockets=[listener])
    if not running.started:
        raise ServeError("the server could not start; the lines above say why")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {settings.port} is taken by another program; stop that one, "
                "or choose another port with --port or XORON_PORT"
            ) from error
        if error.errno == errno.EACCES:
            raise ServeError(f"port {settings.port} may not be opened by this user; take one above 1023") from error
        raise ServeError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}") from error
    return listener

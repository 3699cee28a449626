"""Everything that is open while the server serves, put together in one place."""

import asyncio
import logging
from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

from server.auth.sessions import Sessions
from server.db import Database, open_database
from server.gpus.inventory import Inventory
from server.gpus.leases import Leases
from server.gpus.pool import GpuPool
from server.metrics.ingest import Ingest, Listeners
from server.runs.children import Children
from server.runs.dispatcher import Dispatcher, Launch
from server.runs.index import RunIndex
from server.runs.scheduler import Scheduler
from server.runs.service import RunService
from server.settings import Settings
from server.stream.hub import Hub
from server.system.cpu import CpuMeter
from xoron_core.contract.home import Home, ServerLock

log = logging.getLogger(__name__)

CATCH_UP_S = 5.0
"""The first requests wait this long for the index to catch up; `/readyz` tells when it took longer."""


@dataclass
class Services:
    """What routes are given."""

    settings: Settings
    home: Home
    lock: ServerLock
    database: Database
    index: RunIndex
    hub: Hub
    ingest: Ingest
    runs: RunService
    dispatcher: Dispatcher
    scheduler: Scheduler
    pool: GpuPool
    sessions: Sessions
    cpu: CpuMeter

    def close(self) -> None:
        """Close everything, in the opposite order of opening."""
        self.scheduler.close()
        self.ingest.close()
        self.pool.close()
        self.database.close()
        self.lock.release()


async def open_services(settings: Settings, launch: Launch, inventory: Inventory, ring_bytes: int) -> Services:
    """Open everything; the home is this server's from here on, and the inventory is closed with the rest.

    Raises: RunDirectoryError when the home cannot be written or is served already; ServeError.
    """
    home = Home(settings.home)
    home.prepare()
    lock = ServerLock(home)
    try:
        database = await asyncio.to_thread(open_database, settings.index_url)
    except BaseException:
        lock.release()
        raise
    children = Children()
    index = RunIndex(home, database, children)
    hub = Hub(asyncio.get_running_loop(), ring_bytes)
    ingest = Ingest(index, Listeners(on_events=[hub.publish_events], on_end=[hub.publish_end]))
    pool = GpuPool(inventory, Leases(), home.runs)
    runs = RunService(index, ingest, pool.count)
    dispatcher = Dispatcher(runs, index, children, launch, pool, settings.max_runs)
    scheduler = Scheduler(dispatcher, children)
    index.on_change.append(hub.publish_row)
    index.on_refresh.append(ingest.wake)
    index.on_refresh.append(lambda _: scheduler.wake())
    index.on_remove.append(hub.publish_removal)
    ingest.start()
    scheduler.start(ingest.has_caught_up)
    if not await asyncio.to_thread(ingest.has_caught_up.wait, CATCH_UP_S):
        log.warning("the index is still catching up with the run directories; runs may look older than they are")
    sessions = Sessions.of(settings.token)
    return Services(
        settings, home, lock, database, index, hub, ingest, runs, dispatcher, scheduler, pool, sessions, CpuMeter()
    )


def services(connection: HTTPConnection) -> Services:
    """The dependency of every route."""
    return cast("Services", connection.app.state.services)

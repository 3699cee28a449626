"""`xoron serve`."""

import threading
import time
from pathlib import Path
from typing import Annotated

import typer

_READY_S = 120.0


def serve(
    host: Annotated[str | None, typer.Option(help="Address; any but loopback needs XORON_TOKEN.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of runs.")] = None,
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Start a run of the demo preset, too.")] = False,
) -> None:
    """Serve dashboard and API. What is not given is read from XORON_HOST, XORON_PORT, XORON_HOME …"""
    import logging

    import server.app
    from server.settings import Settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the demo's own requests are no news
    given = {"host": host, "port": port, "home": home}
    settings = Settings.read(**{key: value for key, value in given.items() if value is not None})
    if demo:
        if settings.port == 0:
            settings = settings.model_copy(update={"port": _free_port(settings.host)})
        name = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 -- compared, not bound
        url = f"http://{f'[{name}]' if ':' in name else name}:{settings.port}"
        token = None if settings.token is None else settings.token.get_secret_value()
        threading.Thread(target=_start_demo, args=(url, token), name="demo", daemon=True).start()
    server.app.serve(settings)


def _start_demo(url: str, token: str | None) -> None:
    """Once the server is ready, start a demo run, unless one is under way or waits."""
    from xoron_core.client import XoronClient
    from xoron_core.contract.api import CreateRun
    from xoron_core.contract.errors import XoronError
    from xoron_core.contract.states import LIVE, RunState

    deadline = time.monotonic() + _READY_S
    with XoronClient(url, token) as client:
        while not client.is_ready():
            if time.monotonic() > deadline:
                typer.echo(f"xoron: {url} is not ready after {_READY_S:g} s, no demo run was started", err=True)
                return
            time.sleep(0.05)
        try:
            known = client.list_runs(states=sorted({*LIVE, RunState.QUEUED}), limit=200).items
            runs = [run for run in known if run.preset == "demo"]
            run = runs[0] if runs else client.create_run(CreateRun(preset="demo", name="demo", tags=["demo"]))
        except XoronError as error:
            typer.echo(f"xoron: the demo run could not be started: {error}", err=True)
            return
    typer.echo(f"The dashboard is at {url} and the demo run at {url}/runs/{run.id}")


def _free_port(host: str) -> int:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port

"""Who is let in: Host, Origin, token, and paths that lead out."""

import socket
from pathlib import Path

import httpx
import pytest
from support.runs import wait_for
from support.scripted_run import ScriptedRun
from support.serving import RunningServer, StartServer, clients
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from server.app import check_door, create_app
from server.errors import ServeError
from server.settings import Settings

TOKEN = "correct horse battery staple"


def handshake(server: RunningServer, headers: dict[str, str], host: str | None = None) -> int:
    """The status that a WebSocket handshake ends with; 101 is open."""
    url = f"{server.ws}/stream" if host is None else f"ws://{host}:{server.port}/api/v1/stream"
    try:
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            connect(url, additional_headers=headers, proxy=None, sock=plain),
        ):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "a@127.0.0.1"])
def test_a_foreign_host_is_refused(running_server: RunningServer, host: str) -> None:
    response = running_server.api.get("/runs", headers={"Host": host})
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "Host" in response.json()["detail"]
    assert running_server.root.get("/", headers={"Host": host}).status_code == 403


def test_a_foreign_host_is_refused_on_sockets(running_server: RunningServer) -> None:
    assert handshake(running_server, {}) == 101
    assert handshake(running_server, {}, host="localhost") == 101
    assert handshake(running_server, {}, host="evil.example") == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://[", "http://127.0.0.1:1", "http://localhost.evil.example"]
)
def test_a_foreign_origin_is_refused(running_server: RunningServer, origin: str) -> None:
    response = running_server.api.post("/runs", json={"preset": "demo"}, headers={"Origin": origin})
    assert response.status_code == 403
    assert list(running_server.home.runs.iterdir()) == []
    assert handshake(running_server, {"Origin": origin}) == 403
    assert running_server.api.delete("/runs/x", headers={"Origin": origin}).status_code == 403


def test_the_own_origin_is_let_in(running_server: RunningServer) -> None:
    origin = f"http://127.0.0.1:{running_server.port}"
    response = running_server.api.post("/validate", json={"preset": "demo"}, headers={"Origin": origin})
    assert response.status_code == 200
    assert handshake(running_server, {"Origin": origin}) == 101


def test_other_addresses_demand_a_token() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::"):
        with pytest.raises(ServeError, match="XORON_TOKEN"):
            check_door(Settings(host=host, token=None))
        with pytest.raises(ServeError, match="XORON_TOKEN"):
            create_app(Settings(host=host, token=""))
        check_door(Settings(host=host, token=TOKEN))
    check_door(Settings(host="127.0.0.1"))


def test_without_the_token_nothing_is_told(start_server: StartServer) -> None:
    server = start_server(token=TOKEN)
    with clients(server.port) as (api, root):
        for method, path in (("GET", "/runs"), ("POST", "/runs"), ("GET", "/system"), ("GET", "/openapi.json")):
            response = api.request(method, path)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
        assert api.get("/runs", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert root.get("/healthz").status_code == 200
        assert handshake(server, {}) == 401
    assert server.api.get("/runs").status_code == 200
    assert handshake(server, {"Authorization": f"Bearer {TOKEN}"}) == 101


def test_a_session_cookie_stands_for_the_token(start_server: StartServer) -> None:
    server = start_server(token=TOKEN)
    with clients(server.port) as (api, _):
        wrong = api.post("/session", json={"token": "wrong"})
        assert wrong.status_code == 401
        assert not wrong.cookies
        opened = api.post("/session", json={"token": TOKEN})
        assert opened.status_code == 204
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert api.get("/runs").status_code == 200
        value = api.cookies["xoron_session"]
        assert handshake(server, {"Cookie": f"xoron_session={value}"}) == 101
        forged = value[:-1] + ("0" if value[-1] != "0" else "1")
        later = "9" + value[1:]
        for bad in (forged, later, "", "a.b.c"):
            assert handshake(server, {"Cookie": f"xoron_session={bad}"}) == 401
        assert api.delete("/session").status_code == 204
        assert api.get("/runs").status_code == 401


def test_the_configured_name_is_let_in(start_server: StartServer) -> None:
    server = start_server(host="0.0.0.0", token=TOKEN, allowed_hosts="train.example, other.example")
    for host, status in (("train.example", 200), ("10.1.2.3:8000", 200), ("evil.example", 403)):
        assert server.api.get("/runs", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "../config.yaml",
        "%2e%2e/config.yaml",
        "..%2f..%2f..%2fsecret.txt",
        "link.txt",
        "%2fetc%2fpasswd",
        "%00",
        "a" * 300,
    ],
)
def test_samples_cannot_lead_out_of_their_folder(running_server: RunningServer, path: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hunter2")
    with ScriptedRun(running_server.home) as run:
        running_server.wait_seq(run.id, 1)
        (run.directory.samples / "link.txt").symlink_to(tmp_path / "secret.txt")
        (run.directory.samples / "fine.txt").write_text("fine")
        base = f"/api/v1/runs/{run.id}/samples/"
        assert running_server.root.get(base + "fine.txt").text == "fine"
        url = httpx.URL(f"http://127.0.0.1:{running_server.port}").copy_with(raw_path=(base + path).encode())
        response = running_server.root.get(url)
        assert response.status_code == 404
        assert "hunter2" not in response.text
        assert "tokenizer" not in response.text


@pytest.mark.parametrize("run_id", ["..", "%2e%2e", "..%2ftrash", "%2e%2e%2f%2e%2e%2fetc", "A", "x" * 80])
def test_run_ids_cannot_lead_anywhere(running_server: RunningServer, run_id: str) -> None:
    for path in ("", "/config", "/logs", "/checkpoints"):
        raw = f"/api/v1/runs/{run_id}{path}".encode()
        url = httpx.URL(f"http://127.0.0.1:{running_server.port}").copy_with(raw_path=raw)
        assert running_server.root.get(url).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "//etc/hostname.txt",
        "/index.html%00",
        f"/{'a' * 300}.js",
        f"/{'a/' * 2000}b.js",
    ],
)
def test_pages_cannot_lead_out_of_their_folder(running_server: RunningServer, path: str) -> None:
    url = httpx.URL(f"http://127.0.0.1:{running_server.port}").copy_with(raw_path=path.encode())
    assert running_server.root.get(url).status_code == 404


def test_pages_carry_strict_headers(running_server: RunningServer) -> None:
    response = running_server.root.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert running_server.api.get("/runs").headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in response.headers


def test_no_get_changes_a_file(running_server: RunningServer) -> None:
    with ScriptedRun(running_server.home) as run:
        run.steps(range(1, 4))
        run.end()
    running_server.wait_state(run.id, "completed")

    def files() -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(running_server.home.path.rglob("*")):
            if not path.name.startswith("index.sqlite3"):
                status = path.stat()
                found[str(path)] = (status.st_mtime_ns, status.st_size)
        return found

    before = files()
    description = running_server.api.get("/openapi.json").json()
    paths = [path for path, operations in description["paths"].items() if "get" in operations]
    assert len(paths) >= 12
    for path in paths:
        running_server.root.get(path.format(run_id=run.id, path="x"))
    assert files() == before
    rows = wait_for(lambda: running_server.api.get("/runs").json()["items"])
    assert [row["state"] for row in rows] == ["completed"]

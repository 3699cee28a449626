"""A hub that models are uploaded to: as much of the protocol as its client speaks on the way."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

USER = "someone"


@dataclass
class ModelHub:
    """What a hub has, and how it behaves: `refusals` are statuses with which it answers the next requests to paths that
    match, `token` who it knows."""

    token: str
    url: str = ""
    repositories: dict[str, str] = field(default_factory=dict)
    """Name → visibility."""
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    """Message and files of each, the newest last."""
    refusals: list[tuple[str, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    is_open: Event = field(default_factory=Event)
    """Uploads wait while it is not set, before anything is sent but the beginnings of files."""

    def refuse(self, pattern: str, status: int, times: int = 1000) -> None:
        """Answer the next requests whose method and path match with this status."""
        self.refusals += [(pattern, status)] * times


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ModelHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        sent = self.headers.get("Authorization", "")
        for number, (pattern, status) in enumerate(self.hub.refusals):
            if re.search(pattern, f"{self.command} {path}"):
                del self.hub.refusals[number]
                return self.json({"error": f"refused: {sent}"}, status)
        if sent != f"Bearer {self.hub.token}":
            return self.json({"error": f"Invalid credentials: {sent}"}, 401)
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found := re.fullmatch(r"/api/models/(.+)/auth-check/write", path):
            return self.json({}, 200 if found[1] in self.hub.repositories else 404)
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if path.endswith("/preupload/main"):
            self.hub.is_open.wait()
            asked = json.loads(body)["files"]
            return self.json(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
            )
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self.commit(found[1], [json.loads(line) for line in body.splitlines()])
        return self.json({"error": f"{path} is not spoken here"}, 404)

    do_GET = do_POST

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization'] or USER}/{asked['name']}"
        status = 409 if name in self.hub.repositories else 200
        self.hub.repositories.setdefault(name, asked.get("visibility", "public"))
        self.json({"url": f"{self.hub.url}/{name}", "error": "You already created this model repo"}, status)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        message = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        self.hub.files |= files
        self.hub.commits.append((message, files))
        self.json({"commitUrl": f"{self.hub.url}/{name}/commit/{len(self.hub.commits)}", "commitOid": "a" * 40})

    def json(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Request-Id", f"{len(self.hub.asked)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """It has nothing to say."""


@contextmanager
def model_hub(token: str) -> Iterator[ModelHub]:
    """A hub that knows one token, as long as it is needed."""
    hub = ModelHub(token)
    hub.is_open.set()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.is_open.set()
            server.shutdown()
            thread.join()

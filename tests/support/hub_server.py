"""A hub with one data set, `owner/poems`, made of a folder: as much of the protocol as `datasets` speaks."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40
API = "/api/datasets/owner/poems"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    is_closed = False
    """Whether files are refused; a request for /close or /open says so."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path).rstrip("/")
        if path in ("/close", "/open"):
            type(self).is_closed = path == "/close"
            self.answer(200)
        elif found := re.fullmatch(r"/datasets/owner/poems/resolve/[^/]+/(.+)", path):
            self.file(self.root / found[1])
        elif path == API or path.startswith(f"{API}/revision/"):
            files = [{"rfilename": entry["path"]} for entry in self.entries("")]
            self.json({"id": "owner/poems", "sha": COMMIT, "private": False, "tags": [], "siblings": files})
        elif found := re.fullmatch(rf"{API}/tree/[^/]+/?(.*)", path):
            self.tree(found[1])
        elif path.startswith(f"{API}/paths-info/"):
            wanted = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            self.json([entry for entry in self.entries("") if entry["path"] in wanted])
        else:
            self.answer(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_POST = do_GET

    def tree(self, folder: str) -> None:
        if not (self.root / folder).is_dir():
            return self.answer(404, X_Error_Code="EntryNotFound")
        if "recursive=true" in self.path:
            return self.json(self.entries(f"{folder}/" if folder else ""))
        below = sorted((self.root / folder).iterdir())
        folders = [str(path.relative_to(self.root)) for path in below if path.is_dir()]
        files = [entry for entry in self.entries("") if self.root / entry["path"] in below]
        return self.json([*files, *({"type": "directory", "path": name, "oid": "b" * 40} for name in folders)])

    def entries(self, prefix: str) -> list[dict[str, Any]]:
        found = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        names = [str(path.relative_to(self.root)) for path in found]
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}
            for name, path in zip(names, found, strict=True)
            if name.startswith(prefix)
        ]

    def file(self, path: Path) -> None:
        if self.is_closed:
            return self.answer(403)
        if not path.is_file():
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        content = path.read_bytes()
        about = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.answer(200, content, **about)
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        place = f"bytes {first}-{last}/{len(content)}"
        return self.answer(206, content[first : last + 1], Content_Range=place, **about)

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content_Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """It has nothing to say."""


@contextmanager
def hub_of(root: Path) -> Iterator[str]:
    """The address of a hub whose one data set has the files of a folder."""
    handler = type("Handler", (_Handler,), {"root": root})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

"""A small local server that speaks enough of the Hugging Face hub's API for its libraries.

Repositories are folders `{root}/{datasets|models}/{owner}/{name}/{sha}/`; `refs` names the commit
of each branch. Clients reach it by `HF_ENDPOINT`, which the libraries read once, at import: run
them in a process of their own (`run_on_hub`).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SCRIPTS = Path(__file__).parents[1] / "scripts"


class Hub(ThreadingHTTPServer):
    """Serves `root`; `refs` maps branches and tags to commits; `requests` lists what was asked."""

    daemon_threads = True

    def __init__(self, root: Path, refs: dict[str, str]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.refs = root, refs
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a reply is one packet; two would wait 40 ms for each other

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.respond()

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            kind, owner, name, *rest = parts[1:]
            verb, revision = rest[:2] or ("revision", "main")
            path = "/".join(rest[2:])
        else:
            kind = parts.pop(0) if parts[0] == "datasets" else "models"
            owner, name, verb, revision = parts[:4]
            path = "/".join(parts[4:])
        repository = self.server.root / kind / owner / name
        commit = self.server.refs.get(revision, revision)
        folder = repository / commit
        if not repository.is_dir():
            return self.refuse("RepoNotFound", "Repository not found")
        if not folder.is_dir():
            return self.refuse("RevisionNotFound", f"Invalid rev id: {revision}")
        if verb == "resolve":
            return self.send_file(folder / path, commit)
        files = sorted(p for p in folder.rglob("*"))
        if verb == "revision":
            names = [{"rfilename": str(p.relative_to(folder))} for p in files if p.is_file()]
            return self.send(
                json.dumps({"id": f"{owner}/{name}", "sha": commit, "siblings": names})
            )
        if verb == "tree":
            deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0]
            if not (folder / path).is_dir():
                return self.refuse("EntryNotFound", f"{path} does not exist")
            shown = [p for p in files if p.is_relative_to(folder / path) and p != folder / path]
            if deep.lower() not in ("true", "1"):
                shown = [p for p in shown if p.parent == folder / path]
            return self.send(json.dumps([entry(p, folder) for p in shown]))
        if verb == "paths-info":
            asked = asked_paths(body, self.headers.get("Content-Type", ""))
            return self.send(
                json.dumps([entry(folder / p, folder) for p in asked if (folder / p).exists()])
            )
        return self.refuse("EntryNotFound", f"no {verb} here")

    def send_file(self, path: Path, commit: str) -> None:
        if not path.is_file():
            return self.refuse("EntryNotFound", "Entry not found")
        content, status = path.read_bytes(), 200
        headers = {
            "ETag": f'"{object_id(path)}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        if (wanted := self.headers.get("Range", "")).startswith("bytes="):
            first, last = wanted.removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(content)}"
            content, status = content[start : stop + 1], 206
        self.send(content, status, headers)

    def refuse(self, code: str, message: str) -> None:
        self.send(
            json.dumps({"error": message}),
            404,
            {"X-Error-Code": code, "X-Error-Message": message},
        )

    def send(
        self, content: str | bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def object_id(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def entry(path: Path, folder: Path) -> dict:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": object_id(path)}


def asked_paths(body: bytes, content_type: str) -> list[str]:
    if "json" in content_type:
        paths = json.loads(body)["paths"]
        return paths if isinstance(paths, list) else [paths]
    return parse_qs(body.decode()).get("paths", [])


@contextmanager
def serve(root: Path, refs: dict[str, str]) -> Iterator[Hub]:
    hub = Hub(root, refs)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def run_on_hub(hub: Hub, home: Path, code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `code` in a new Python that knows only this hub and keeps its caches in `home`.

    It has a process group of its own, which it may kill, and no torch, as the environment of the
    downloads has none.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    proxies = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment = (
        kept
        | proxies
        | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(SCRIPTS),
            "USE_TORCH": "0",
        }
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )

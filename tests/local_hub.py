"""A hub for the tests: its HTTP API on 127.0.0.1, and a process that knows no other.

As much of the API as the hub's libraries use, with folders as repositories: a commit names the
content, weights have an SHA-256 (Git LFS), all others git's own SHA-1, and a download may go on in
the middle of a file (Range). Repositories are folders
`{root}/{datasets|models}/{owner}/{name}/{sha}/`.
Clients that take no endpoint reach the server by `HF_ENDPOINT`, which the libraries read once, at
import: run them in a process of their own (`run_on_hub`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from huggingface_hub.utils.sha import git_hash

from overtrain.records.provenance import sha256

SCRIPTS = Path(__file__).parents[1] / "scripts"
LFS = (".bin", ".pt", ".safetensors")
BLOCK = 2**20  # bytes sent at a time


@dataclass
class Repository:
    """`folders` by commit; `refs`: the commit of each branch or tag."""

    folders: dict[str, Path]
    refs: dict[str, str]

    def find(self, revision: str) -> tuple[str, Path] | None:
        """Commit and folder of a branch, a tag or a commit."""
        commit = self.refs.get(revision, revision)
        return (commit, self.folders[commit]) if commit in self.folders else None


def description(path: Path) -> dict:
    """Size and hashes of a file, as the hub tells them."""
    size = path.stat().st_size
    if path.suffix not in LFS:
        return {"size": size, "oid": git_hash(path.read_bytes())}
    digest = sha256(path)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    lfs = {"oid": digest, "sha256": digest, "size": size, "pointerSize": len(pointer)}
    return {"size": size, "oid": git_hash(pointer.encode()), "lfs": lfs}


class Hub(ThreadingHTTPServer):
    """Serves `repositories` by their path (models/owner/name); `requests` lists what was asked."""

    daemon_threads = True

    def __init__(self, repositories: dict[str, Repository], handler: type[Handler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.repositories = repositories
        self.requests: list[str] = []

    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that went away
            super().handle_error(*_)

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
        wanted = self.headers.get("Range")
        self.server.requests.append(
            f"{self.command} {self.path}" + (f" {wanted}" if wanted else "")
        )
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            if len(parts) == 2:
                return self.send(json.dumps(self.of_author(parts[1])))
            kind, owner, name, *rest = parts[1:]
            verb, *rest = rest or ["revision"]
        else:
            kind = parts.pop(0) if parts[0] == "datasets" else "models"
            owner, name, verb, *rest = parts
        revision, path = (rest or ["main"])[0], "/".join(rest[1:])
        repository = self.server.repositories.get(f"{kind}/{owner}/{name}")
        if repository is None:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        if verb == "auth-check":
            return self.send("{}")
        if verb == "refs":
            refs = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in repository.refs.items()
            ]
            return self.send(json.dumps({"branches": refs, "converts": [], "tags": []}))
        found = repository.find(revision)
        if found is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, folder = found
        if verb == "resolve":
            return self.send_file(folder / path, commit)
        if verb == "revision":
            return self.send(json.dumps(self.information(f"{owner}/{name}", commit, folder)))
        if verb == "tree":
            deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0]
            if not (folder / path).is_dir():
                return self.refuse(404, "EntryNotFound", f"{path} does not exist")
            shown = (folder / path).rglob("*") if deep in ("True", "true", "1") else ()
            shown = sorted(shown or (folder / path).iterdir())
            return self.send(json.dumps([entry(p, folder) for p in shown]))
        if verb == "paths-info":
            asked = asked_paths(body, self.headers.get("Content-Type", ""))
            shown = [folder / p for p in asked if (folder / p).exists()]
            return self.send(json.dumps([entry(p, folder) for p in shown]))
        return self.refuse(404, "EntryNotFound", f"no {verb} here")

    def of_author(self, kind: str) -> list[dict]:
        author = parse_qs(urlsplit(self.path).query).get("author", [""])[0]
        owned = [path.split("/", 1) for path in self.server.repositories]
        return [{"id": name} for k, name in owned if k == kind and name.startswith(f"{author}/")]

    def information(self, name: str, commit: str, folder: Path) -> dict:
        """What there is at a commit; sizes and hashes where they are asked for."""
        siblings = []
        hashes = "blobs" in parse_qs(urlsplit(self.path).query)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            own = description(path) if hashes else {}
            if "oid" in own:
                own["blobId"] = own.pop("oid")
            siblings.append({"rfilename": str(path.relative_to(folder))} | own)
        return {"id": name, "sha": commit, "gated": False, "siblings": siblings}

    def send_file(self, path: Path, commit: str) -> None:
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", "Entry not found")
        size = path.stat().st_size
        start, stop, status = 0, size, 200
        own = description(path)
        digest = own["lfs"]["oid"] if "lfs" in own else own["oid"]
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if (wanted := self.headers.get("Range", "")).startswith("bytes="):
            first, last = wanted.removeprefix("bytes=").split("-")
            start, stop, status = int(first), min(int(last or size) + 1, size), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            if start >= size:
                return self.send("", 416, {"Content-Range": f"bytes */{size}"})
        self.head(stop - start, status, headers)
        if self.command != "HEAD":
            self.send_part(path, start, stop)

    def send_part(self, path: Path, start: int, stop: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while start < stop:
                start += self.wfile.write(file.read(min(BLOCK, stop - start)))

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.send(json.dumps({"error": message}), status, headers)

    def send(self, content: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content.encode()
        self.head(len(body), status, headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def head(self, length: int, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(key, value)
        self.end_headers()


def entry(path: Path, folder: Path) -> dict:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}
    return {"type": "file", "path": name} | description(path)


def asked_paths(body: bytes, content_type: str) -> list[str]:
    if "json" in content_type:
        paths = json.loads(body)["paths"]
        return paths if isinstance(paths, list) else [paths]
    return parse_qs(body.decode()).get("paths", [])


@contextmanager
def serve(root: Path, refs: dict[str, str], handler: type[Handler] = Handler) -> Iterator[Hub]:
    """Serve the repositories below `root`; `refs` are the branches and tags of each."""
    repositories = {}
    for path in root.glob("*/*/*"):
        if path.parts[-3] not in ("datasets", "models"):
            continue
        folders = {commit.name: commit for commit in path.iterdir()}
        own = {ref: commit for ref, commit in refs.items() if commit in folders}
        repositories["/".join(path.parts[-3:])] = Repository(folders, own)
    hub = Hub(repositories, handler)
    thread = threading.Thread(target=hub.serve_forever, args=[0.02], daemon=True)
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
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=on_hub(hub, home),
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )


def on_hub(hub: Hub, home: Path) -> dict[str, str]:
    """The environment of a process that knows only this hub."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    proxies = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return (
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

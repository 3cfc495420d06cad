"""The hub's HTTP API on 127.0.0.1, as much as its libraries use: folders as repositories.

A local folder with a folder for each revision is downloaded through it, on the same path of code as
what the hub holds. As there, a commit names the content, weights and large files have an SHA-256
(Git LFS), all others git's own SHA-1, and a download may go on in the middle of a file (Range).
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from overtrain.records.provenance import sha256

LFS = (".bin", ".pt", ".safetensors")
LFS_SIZE = 10 * 2**20  # bytes from which any file is kept in LFS
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


class Revisions:
    """A folder that holds a folder for each revision, which is read when it is asked for."""

    def __init__(self, root: Path):
        self.root = root
        self.folders: dict[str, Path] = {}  # by commit

    @property
    def refs(self) -> dict[str, str]:
        names = sorted(path.name for path in self.root.iterdir())
        return {name: found[0] for name in names if (found := self.find(name))}

    def find(self, revision: str) -> tuple[str, Path] | None:
        if revision in self.folders:
            return revision, self.folders[revision]
        folder = self.root / revision
        if revision.startswith(".") or "/" in revision or not folder.is_dir():
            return None
        commit = commit_of(folder)
        self.folders[commit] = folder
        return commit, folder


def commit_of(folder: Path) -> str:
    """40 hexadecimal digits that change whenever the name or the content of a file does."""
    files = [(str(path.relative_to(folder)), content_hash(path)) for path in files_in(folder)]
    return hashlib.sha1(json.dumps(files).encode()).hexdigest()


def files_in(folder: Path) -> list[Path]:
    """The files below a revision's folder; hidden ones are Snakemake's, and others' own."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def content_hash(path: Path) -> str:
    """SHA-256 of a file, read again only when it has changed."""
    status = path.stat()
    return remembered_hash(path, status.st_size, status.st_mtime_ns)


@cache
def remembered_hash(path: Path, size: int, changed: int) -> str:
    return sha256(path)


def git_hash(content: bytes) -> str:
    """What git calls a file: SHA-1 of its content with a head."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(path: Path) -> bool:
    return path.suffix in LFS or path.stat().st_size >= LFS_SIZE


def description(path: Path) -> dict:
    """Size and hashes of a file, as the hub tells them."""
    size = path.stat().st_size
    if not is_lfs(path):
        return {"size": size, "oid": git_hash(path.read_bytes())}
    digest = content_hash(path)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    lfs = {"oid": digest, "sha256": digest, "size": size, "pointerSize": len(pointer)}
    return {"size": size, "oid": git_hash(pointer.encode()), "lfs": lfs}


class Hub(ThreadingHTTPServer):
    """Serves `repositories` by their path (models/owner/name); `requests` lists what was asked."""

    daemon_threads = True

    def __init__(
        self, repositories: dict[str, Repository | Revisions], handler: type[Handler] | None = None
    ):
        super().__init__(("127.0.0.1", 0), handler or Handler)
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
        for path in files_in(folder):
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
def serve(
    repositories: dict[str, Repository | Revisions], handler: type[Handler] | None = None
) -> Iterator[Hub]:
    """A hub that serves `repositories` while the block runs."""
    hub = Hub(repositories, handler)
    thread = threading.Thread(target=hub.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()

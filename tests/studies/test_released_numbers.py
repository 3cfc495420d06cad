"""Released files: from copies or a server, whole and with the pinned hashes, or one line why not.

The server runs in a thread of the test; no test reaches another.
"""

import hashlib
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from overtrain import PipelineError
from overtrain.config.catalogue import copies_of
from overtrain.config.studies import ReleasedNumbers
from overtrain.studies.released_numbers import fetch

CONTENTS = {"one.csv": b"a,b\n1,2\n", "two.csv": b"c\n" + b"3\n" * 100_000}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "study"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def settings(url: str = "http://127.0.0.1:9/{file}", **more: object) -> ReleasedNumbers:
    files = {name: digest(content) for name, content in CONTENTS.items()}
    common = {"url": url, "commit": COMMIT, "files": files, "local": None, "download": True}
    return ReleasedNumbers.model_validate(common | more)


def copies(root: Path, **changed: bytes | None) -> Path:
    """A folder of copies of SOURCE's files; `changed` by the first part of their names."""
    folder = root / SOURCE
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        content = changed.get(name.removesuffix(".csv"), content)
        if content is not None:
            (folder / name).write_bytes(content)
    return root


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Neither copies nor a proxy of whoever runs the tests."""
    monkeypatch.delenv("OVERTRAIN_RELEASED_NUMBERS", raising=False)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "results" / SOURCE


def fails(target: Path, chosen: ReleasedNumbers) -> str:
    """The one line of a download that fails and leaves nothing behind."""
    with pytest.raises(PipelineError) as caught:
        fetch(SOURCE, chosen, target)
    assert list(target.parent.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- copies ---------------------------------------------------------------------------------------


def test_copies_are_those_of_the_configuration_before_the_environments(tmp_path, monkeypatch):
    local, other = copies(tmp_path / "local"), copies(tmp_path / "other")
    assert copies_of(SOURCE, settings()) is None
    assert copies_of(SOURCE, settings(local=str(local))) == local / SOURCE
    monkeypatch.setenv("OVERTRAIN_RELEASED_NUMBERS", str(other))
    assert copies_of(SOURCE, settings()) == other / SOURCE
    assert copies_of(SOURCE, settings(local=str(local))) == local / SOURCE
    monkeypatch.setenv("OVERTRAIN_RELEASED_NUMBERS", "")
    assert copies_of(SOURCE, settings()) is None


def test_an_incomplete_folder_holds_no_copies(tmp_path, monkeypatch):
    local, other = copies(tmp_path / "local", two=None), copies(tmp_path / "other")
    assert copies_of(SOURCE, settings(local=str(local))) is None
    assert copies_of("another", settings(local=str(other))) is None
    monkeypatch.setenv("OVERTRAIN_RELEASED_NUMBERS", str(other))
    assert copies_of(SOURCE, settings(local=str(local))) == other / SOURCE


def test_copies_are_taken_without_a_server(tmp_path, target):
    root = copies(tmp_path / "local")
    (root / SOURCE / "more.csv").write_bytes(b"not asked for")
    fetch(SOURCE, settings(local=str(root), download=False), target)
    assert contents(target) == CONTENTS
    assert [path.name for path in target.parent.iterdir()] == [SOURCE]


@pytest.mark.parametrize("which", ["one", "two"])
def test_a_copy_of_another_hash_is_one_line(tmp_path, target, which):
    root = copies(tmp_path / "local", **{which: b"changed\n"})
    name = f"{which}.csv"
    text = fails(target, settings(local=str(root)))
    assert text == (
        f"{root / SOURCE / name}: its SHA-256 is {digest(b'changed' + bytes([10]))}; "
        f"released_numbers.{SOURCE}.files.{name} is {digest(CONTENTS[name])}"
    )


def test_a_failure_leaves_what_was_there(tmp_path, target):
    fetch(SOURCE, settings(local=str(copies(tmp_path / "good"))), target)
    bad = copies(tmp_path / "bad", two=b"")
    with pytest.raises(PipelineError):
        fetch(SOURCE, settings(local=str(bad)), target)
    assert contents(target) == CONTENTS
    assert [path.name for path in target.parent.iterdir()] == [SOURCE]


# --- server ---------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Answers /{way}/{commit}/{file} in one of the ways in which servers do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, way, commit, name = self.path.split("/")
        self.server.asked.append(self.path)
        content = CONTENTS.get(name, b"") if commit == COMMIT else b""
        self.close_connection = True
        if name == "one.csv" or way == "good":
            self.answer(content)
        elif way == "absent":
            self.send_error(404)
        elif way == "broken":
            self.send_error(500)
        elif way == "short":  # the connection is dropped half-way
            self.answer(content[: len(content) // 2], len(content))
        elif way == "chunks":  # the same, with no length said before
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n" % len(content) + content[: len(content) // 2])
        elif way == "silent":  # dropped before an answer
            return
        elif way == "garbage":
            self.wfile.write(b"220 mail.example ESMTP\r\n")
        elif way == "other":
            self.answer(b"<html>Sign in</html>")

    def answer(self, content: bytes, length: int | None = None):
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def address(server: ThreadingHTTPServer, way: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{way}/{{commit}}/{{file}}"


def test_files_come_from_their_address_at_the_commit(server, target):
    server.asked.clear()
    fetch(SOURCE, settings(address(server, "good")), target)
    assert contents(target) == CONTENTS
    assert server.asked == [f"/good/{COMMIT}/{name}" for name in CONTENTS]
    assert [path.name for path in target.parent.iterdir()] == [SOURCE]


def test_a_server_is_not_asked_for_what_there_are_copies_of(server, tmp_path, target):
    server.asked.clear()
    root = copies(tmp_path / "local")
    fetch(SOURCE, settings(address(server, "good"), local=str(root)), target)
    assert contents(target) == CONTENTS and server.asked == []


WAYS = ["absent", "broken", "short", "chunks", "silent", "garbage", "other"]


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_fails_is_one_line_with_the_address(server, target, way):
    text = fails(target, settings(address(server, way)))
    url = address(server, way).format(commit=COMMIT, file="two.csv")
    assert text.startswith(f"{url}: ")
    if way in ("absent", "broken"):
        assert f"not to be had (HTTP Error {404 if way == 'absent' else 500}" in text
    elif way in ("other", "short"):  # no error of the transfer: the hash tells
        assert digest(CONTENTS["two.csv"]) in text and "its SHA-256 is" in text
    else:
        assert ": not to be had (" in text


@pytest.fixture
def closed() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_no_server_is_one_line_with_the_address(closed, target):
    url = f"http://127.0.0.1:{closed}/one.csv"
    text = fails(target, settings(f"http://127.0.0.1:{closed}/{{file}}"))
    assert text.startswith(f"{url}: not to be had (") and "refused" in text


@pytest.mark.parametrize("url", ["{file}", "files/{file}", "http://127.0.0.1:9/a b/{file}"])
def test_what_is_no_address_is_one_line(url, target):
    address = url.format(file="one.csv")
    assert fails(target, settings(url)).startswith(f"{address}: not to be had (")

"""Checkpoints from a local server that speaks the hub's API: the revision asked for, and safe."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from local_hub import Handler, Hub, on_hub, run_on_hub, serve
from safetensors.torch import load_file, save_file

from overtrain import PipelineError
from overtrain.hub import client as hub
from overtrain.hub import download
from overtrain.hub import server as hub_server
from overtrain.hub.download import MANIFEST, convert, download_checkpoint
from overtrain.records.provenance import sha256

OLD, NEW, PICKLED, EMPTY = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
REFS = {"main": NEW, "step10-tokens1B": OLD, "ckpt_040": PICKLED, "bare": EMPTY}
TOKEN = "hf_" + "secret" * 5
NAME = "allenai/tiny"


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 3, generator=generator) for name in ("model.a", "model.b")}


def write_revision(folder: Path, seed: int, pickled: bool = False) -> None:
    """A repository's files at one commit, with some that are not to be taken."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        content = {"model_type": "olmo", "name": name, "seed": seed}
        (folder / name).write_text(json.dumps(content))
    for name in ("README.md", "modeling_tiny.py", "optimizer.pt", "training_args.bin"):
        (folder / name).write_text("not to be taken")
    for name in ("original/model.safetensors", "tokenizer_before/tokenizer.json"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("not to be taken")
    tensors = weights(seed)
    if not pickled:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "pytorch_model.bin").write_text("not to be taken")
        return
    shared = {"model.a": tensors["model.a"], "model.tied": tensors["model.a"]}
    torch.save(shared, folder / "pytorch_model-00001-of-00002.bin")
    torch.save({"model.b": tensors["model.b"]}, folder / "pytorch_model-00002-of-00002.bin")
    names = {"model.a": 1, "model.tied": 1, "model.b": 2}
    places = {key: f"pytorch_model-0000{i}-of-00002.bin" for key, i in names.items()}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    models = root / "models" / NAME
    for seed, commit in enumerate((OLD, NEW, PICKLED)):
        write_revision(models / commit, seed, pickled=commit == PICKLED)
    (models / EMPTY).mkdir()
    (models / EMPTY / "config.json").write_text("{}")
    return root


CODE = """
import os, sys
from pathlib import Path
os.environ["HF_TOKEN"] = sys.argv[3]
from overtrain import PipelineError
from overtrain.download import download_checkpoint

for revision in sys.argv[4:]:
    folder = Path(sys.argv[2], revision)
    try:
        download_checkpoint(sys.argv[1], revision, folder, folder.with_suffix(".work"))
    except PipelineError as error:
        print(f"{revision}: {error}")
"""


@pytest.fixture(scope="module")
def downloaded(root: Path, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, list[str]]:
    """(folder of the checkpoints, what the process said, what it asked the server)."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with serve(root, REFS) as hub:
        arguments = [NAME, str(folder), TOKEN, "step10-tokens1B", "ckpt_040", "nope", "bare"]
        done = run_on_hub(hub, folder / "home", CODE, *arguments)
        other = run_on_hub(hub, folder / "home", CODE, "allenai/none", str(folder), TOKEN, "main")
    assert done.returncode == other.returncode == 0, done.stderr + other.stderr
    done.stdout += other.stdout
    done.stderr += other.stderr
    return folder, done, hub.requests


def manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


def test_a_tag_that_main_has_left_behind_and_only_what_is_needed(downloaded) -> None:
    folder = downloaded[0] / "step10-tokens1B"
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == names | {MANIFEST}
    assert json.loads((folder / "config.json").read_text())["seed"] == 0
    found = load_file(folder / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(0).items())
    written = manifest(folder)
    assert (written["commit"], written["revision"]) == (OLD, "step10-tokens1B")
    assert written["repository"] == NAME
    assert written["files"] == {name: sha256(folder / name) for name in names}
    asked = [r for r in downloaded[2] if "/resolve/" in r]
    assert asked and not any("not_" in r or "README" in r or ".py" in r for r in asked)
    assert all(f"/resolve/{OLD}/" in r or f"/resolve/{PICKLED}/" in r for r in asked)


def test_pickled_weights_become_safetensors_with_an_index(downloaded, root: Path) -> None:
    folder = downloaded[0] / "ckpt_040"
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert sorted(path.name for path in folder.glob("model*")) == [
        *shards,
        "model.safetensors.index.json",
    ]
    assert not list(folder.glob("*.bin"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    first, second = shards
    assert index["weight_map"] == {"model.a": first, "model.tied": first, "model.b": second}
    expected = weights(2)
    found = load_file(folder / first) | load_file(folder / second)
    assert torch.equal(found["model.a"], expected["model.a"])
    assert torch.equal(found["model.tied"], expected["model.a"])
    assert torch.equal(found["model.b"], expected["model.b"])
    source = root / "models" / NAME / PICKLED
    assert manifest(folder)["converted_from"] == {
        name: sha256(source / name)
        for name in (f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2))
    }


def test_wrong_names_are_one_line_and_leave_nothing(downloaded) -> None:
    folder, done, _ = downloaded
    wrong, bare, repository = done.stdout.splitlines()
    assert wrong == (
        f"nope: {NAME} at nope: no such revision; it has main, step10-tokens1B, ckpt_040, ..."
    )
    assert bare.startswith(f"bare: {NAME} at bare: needs config.json and model*.safetensors")
    assert repository.startswith("main: allenai/none at main: no such repository")
    assert {path.name for path in folder.iterdir()} == {"step10-tokens1B", "ckpt_040"}


def test_the_token_is_nowhere(downloaded) -> None:
    folder, done, requests = downloaded
    assert TOKEN not in done.stdout + done.stderr + "".join(requests)
    for path in folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_the_token_reaches_the_server(root: Path, tmp_path: Path, monkeypatch) -> None:
    seen, respond = [], Handler.respond

    def listen(request: Handler) -> None:
        seen.append(request.headers.get("Authorization"))
        respond(request)

    monkeypatch.setattr(Handler, "respond", listen)
    with serve(root, REFS) as hub:
        run_on_hub(hub, tmp_path / "home", CODE, NAME, str(tmp_path), TOKEN, "ckpt_040")
    assert seen and set(seen) == {f"Bearer {TOKEN}"}


# --- a local folder, served as the hub serves a repository ----------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_revision(tmp_path / "source/ckpt_005", 5)
    write_revision(tmp_path / "source/ckpt_358", 6)
    return tmp_path / "source"


def test_a_local_folder_has_a_folder_for_each_revision(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    written = download_checkpoint(str(source), "ckpt_005", folder, tmp_path / "work")
    assert re.fullmatch("[0-9a-f]{40}", written["commit"])
    assert {p.name for p in folder.iterdir()} == {*written["files"], MANIFEST}
    for name in written["files"]:
        assert (folder / name).read_bytes() == (source / "ckpt_005" / name).read_bytes()
    other = download_checkpoint(str(source), "ckpt_358", tmp_path / "other", tmp_path / "work")
    assert other["commit"] != written["commit"]
    again = download_checkpoint(str(source), "ckpt_005", tmp_path / "again", tmp_path / "work")
    assert again == written


def test_a_download_ends_on_another_file_system_too(source: Path, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system here")
    with tempfile.TemporaryDirectory(dir=shared) as work:
        written = download_checkpoint(
            str(source), "ckpt_005", tmp_path / "checkpoint", Path(work, "work")
        )
    for name, digest in written["files"].items():
        assert sha256(tmp_path / "checkpoint" / name) == digest


def test_a_judges_template_is_taken_and_its_architecture_may_be_any(source: Path, tmp_path: Path):
    for name, text in (("config.json", '{"model_type": "other"}'), ("chat_template.jinja", "{}")):
        (source / "ckpt_005" / name).write_text(text)
    folder, work = tmp_path / "judge", tmp_path / "work"
    with pytest.raises(PipelineError, match=r"model_type .* is 'other'"):
        download_checkpoint(str(source), "ckpt_005", folder, work)
    assert not folder.exists()
    download_checkpoint(str(source), "ckpt_005", folder, work, architectures=None)
    assert (folder / "chat_template.jinja").read_text() == "{}"


def test_the_commit_of_a_local_revision_is_its_content(source: Path, tmp_path: Path) -> None:
    before = hub_server.commit_of(source / "ckpt_005")
    (source / "ckpt_005/.snakemake_timestamp").touch()
    assert hub_server.commit_of(source / "ckpt_005") == before
    (source / "ckpt_005/config.json").write_text(json.dumps({"model_type": "olmo", "seed": 9}))
    assert hub_server.commit_of(source / "ckpt_005") != before


def failure(source: Path, tmp_path: Path, revision: str = "ckpt_005") -> str:
    """The line of a download that must fail and leave no folder."""
    folder = tmp_path / "checkpoint"
    with pytest.raises(PipelineError) as caught:
        download_checkpoint(str(source), revision, folder, tmp_path / "work")
    line = str(caught.value)
    assert line.startswith(f"{source} at {revision}") and "\n" not in line
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "work"}
    return line.removeprefix(f"{source} at {revision}")


def test_a_revision_that_is_not_there_names_the_nearest(source: Path, tmp_path: Path) -> None:
    line = failure(source, tmp_path, "ckpt_410")
    assert line == ": no such revision; nearest ckpt_358, ckpt_005 (of 2)"
    with pytest.raises(PipelineError, match=r"^/nowhere: no such folder$"):
        download_checkpoint("/nowhere", "main", tmp_path / "checkpoint", tmp_path / "work")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("ckpt_410", [f"ckpt_{i:03d}" for i in range(359)], ["ckpt_358", "ckpt_357", "ckpt_356"]),
        ("step738000-tokens3094B", ["main", "step738020-tokens3095B", "step10000-tokens41B"],
         ["step738020-tokens3095B", "step10000-tokens41B"]),
        ("mian", ["main", "ckpt_001"], ["main"]),
        ("zzz", ["main"], []),
    ],
)  # fmt: skip
def test_nearest_names(name: str, known: list[str], expected: list[str]) -> None:
    assert hub.nearest(name, known) == expected


def test_an_architecture_that_needs_code_is_refused_before_its_weights(
    source: Path, tmp_path: Path, served: Callable
) -> None:
    (source / "ckpt_005/config.json").write_text(json.dumps({"model_type": "hf_olmo"}))
    requests = served(Handler)
    line = failure(source, tmp_path)
    assert line == (
        ": model_type of config.json is 'hf_olmo'; it must be one of llama, olmo, olmo2"
    )
    assert not any("model.safetensors" in request for request in requests())


def test_an_index_that_names_a_missing_shard(source: Path, tmp_path: Path) -> None:
    revision = source / "ckpt_005"
    (revision / "model.safetensors").rename(revision / "model-00001-of-00002.safetensors")
    places = {f"model.{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    index = "model.safetensors.index.json"
    (revision / index).write_text(json.dumps({"weight_map": places}))
    assert failure(source, tmp_path) == (
        f", {index}: names model-00002-of-00002.safetensors, which the revision does not have"
    )


# --- a server that fails --------------------------------------------------------------------------

SIZE = 40_000  # bytes of the large tensor
PIECE = 4096  # bytes that the client writes at a time


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """served(handler) has local folders served by `handler`; the result tells all requests."""
    hubs = []

    def start(handler: type[Handler]) -> Callable[[], list[str]]:
        class Recorded(Hub):
            def __init__(self, repositories: dict, _: None):
                super().__init__(repositories, handler)
                hubs.append(self)

        monkeypatch.setattr(hub_server, "Hub", Recorded)
        return lambda: [request for own in hubs for request in own.requests]

    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", PIECE)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
    return start


@pytest.fixture
def large(source: Path) -> Path:
    """The repository with a model of more than one piece."""
    tensors = {"model.a": torch.arange(SIZE // 8)}
    save_file(tensors, source / "ckpt_005/model.safetensors", metadata={"format": "pt"})
    return source


def of_model(requests: list[str]) -> list[str]:
    return [r.split("model.safetensors", 1)[1].strip() for r in requests if "model.safe" in r]


class Dies(Handler):
    """Closes every connection after half of what was asked of the model, and then for good."""

    def send_part(self, path: Path, start: int, stop: int) -> None:
        if path.name != "model.safetensors":
            return super().send_part(path, start, stop)
        super().send_part(path, start, (start + stop) // 2)
        self.wfile.flush()
        self.close_connection = True
        self.server.dead = True

    def respond(self) -> None:
        if getattr(self.server, "dead", False):
            self.close_connection = True
            self.server.requests.append(f"dead {self.path} {self.headers.get('Range')}")
        else:
            super().respond()


def test_a_server_that_dies_half_way_and_the_next_attempt_asks_for_the_rest(
    large: Path, tmp_path: Path, served: Callable
) -> None:
    served(Dies)
    line = failure(large, tmp_path)
    assert re.match(r": the hub is not to be reached \(RemoteProtocolError: ", line)
    (half,) = (tmp_path / "work").glob("*.partial")
    there = half.stat().st_size
    assert PIECE <= there < SIZE and there % PIECE == 0
    requests = served(Handler)
    before = len(requests())
    written = download_checkpoint(str(large), "ckpt_005", tmp_path / "out", tmp_path / "work")
    assert of_model(requests()[before:]) == [f"bytes={there}-"]
    assert not any("config.json" in r for r in requests()[before:])  # whole already
    assert sha256(tmp_path / "out/model.safetensors") == written["files"]["model.safetensors"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        large / "ckpt_005/model.safetensors"
    ).read_bytes()
    assert not (tmp_path / "work").exists()


class Stumbles(Handler):
    """Closes the first connection for the model after half of it."""

    def send_part(self, path: Path, start: int, stop: int) -> None:
        if path.name == "model.safetensors" and not start:
            super().send_part(path, 0, stop // 2)
            self.wfile.flush()
            self.close_connection = True
        else:
            super().send_part(path, start, stop)


def test_a_connection_that_breaks_goes_on_within_one_attempt(
    large: Path, tmp_path: Path, served: Callable
) -> None:
    requests = served(Stumbles)
    download_checkpoint(str(large), "ckpt_005", tmp_path / "out", tmp_path / "work")
    first, second = of_model(requests())
    assert first == "" and re.fullmatch(r"bytes=\d+-", second)


class Truncates(Handler):
    """Says and sends less of the model than the listing of the revision has."""

    def send_file(self, path: Path, commit: str) -> None:
        if path.name != "model.safetensors":
            return super().send_file(path, commit)
        self.head(1000, 200, {"ETag": '"x"', "X-Repo-Commit": commit})
        self.wfile.write(path.read_bytes()[:1000])


class Alters(Handler):
    """Sends other bytes of the right number, of the file that `altered` names."""

    altered = "model.safetensors"

    def send_part(self, path: Path, start: int, stop: int) -> None:
        if path.name != self.altered:
            return super().send_part(path, start, stop)
        self.wfile.write(path.read_bytes()[start : stop - 1] + b"?")


class AltersTokenizer(Alters):
    altered = "tokenizer.json"


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (Truncates, r", model\.safetensors: 1,000 bytes came; the hub says 40,\d\d\d$"),
        (Alters, r", model\.safetensors: its SHA-256 is [0-9a-f]{64}; the hub says [0-9a-f]{64}$"),
        (AltersTokenizer, r", tokenizer\.json: its git hash is \w{40}; the hub says \w{40}$"),
    ],
)
def test_a_file_that_is_not_what_the_hub_says(
    large: Path, tmp_path: Path, served: Callable, handler: type[Handler], expected: str
) -> None:
    served(handler)
    assert re.match(expected, failure(large, tmp_path))
    assert not list((tmp_path / "work").glob("*.partial"))
    served(Handler)  # what was wrong is gone, and what was right is kept
    download_checkpoint(str(large), "ckpt_005", tmp_path / "out", tmp_path / "work")


def test_a_kept_file_that_was_damaged_is_not_taken(
    large: Path, tmp_path: Path, served: Callable
) -> None:
    served(Dies)
    failure(large, tmp_path)
    whole = next(p for p in (tmp_path / "work").iterdir() if p.suffix != ".partial")
    whole.write_bytes(whole.read_bytes()[:-1] + b"?")
    served(Handler)
    assert "the hub says" in failure(large, tmp_path)
    download_checkpoint(str(large), "ckpt_005", tmp_path / "out", tmp_path / "work")


def test_proxies_and_offline_mode_do_not_touch_a_local_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    download_checkpoint(str(source), "ckpt_005", tmp_path / "out", tmp_path / "work")
    with pytest.raises(PipelineError, match=r"the hub is not to be reached \(OfflineModeIsEnabled"):
        download_checkpoint("allenai/x", "main", tmp_path / "no", tmp_path / "work")


# --- a full disk ----------------------------------------------------------------------------------


def test_no_room_is_said_before_anything_is_fetched(
    large: Path, tmp_path: Path, served: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = served(Handler)
    free = usage(10_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: free)
    line = failure(large, tmp_path)
    assert re.match(r": needs 0\.0 GB more on the disk of .*/work, which has 0\.0 GB free$", line)
    assert not any("/resolve/" in request for request in requests())


def usage(free: int) -> SimpleNamespace:
    return SimpleNamespace(free=free)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_disk_that_fills_half_way(large: Path, tmp_path: Path, served: Callable) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount")
    try:
        requests = served(Handler)
        (disk / "other").write_bytes(b"x" * 30_000)
        real = download.shutil.disk_usage
        download.shutil.disk_usage = lambda _: usage(10**9)  # filled by another later
        try:
            with pytest.raises(OSError) as caught:
                download_checkpoint(str(large), "ckpt_005", disk / "out", disk / "work")
        finally:
            download.shutil.disk_usage = real
        assert caught.value.errno == errno.ENOSPC  # which job.logged makes one line
        assert not (disk / "out").exists()
        (disk / "other").unlink()
        before = len(requests())
        download_checkpoint(str(large), "ckpt_005", disk / "out", disk / "work")
        (rest,) = of_model(requests()[before:])
        assert re.fullmatch(r"bytes=[1-9]\d*-", rest)  # what had come was not asked again
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- a killed process, a gated repository ---------------------------------------------------------

SMALL_PIECES = "import huggingface_hub.constants as c\nc.DOWNLOAD_CHUNK_SIZE = 4096\n"


class Waits(Handler):
    """Sends half of the model and then nothing, until the client is gone."""

    def send_part(self, path: Path, start: int, stop: int) -> None:
        if path.name != "model.safetensors" or start:
            return super().send_part(path, start, stop)
        super().send_part(path, start, stop // 2)
        self.wfile.flush()
        while not getattr(self.server, "killed", False):
            time.sleep(0.01)


def test_a_killed_download_goes_on(root: Path, tmp_path: Path) -> None:
    commit = tmp_path / "root/models" / NAME / NEW
    write_revision(commit, 1)
    tensors = {"model.a": torch.arange(SIZE // 8)}
    save_file(tensors, commit / "model.safetensors", metadata={"format": "pt"})
    arguments = [NAME, str(tmp_path), TOKEN, "main"]
    with serve(tmp_path / "root", REFS, Waits) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SMALL_PIECES + CODE, *arguments],
            env=on_hub(server, tmp_path / "home"),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size for p in (tmp_path / "main.work").glob("*.partial")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.killed = True
        assert not (tmp_path / "main").exists()
        (half,) = (tmp_path / "main.work").glob("*.partial")
        there, before = half.stat().st_size, len(server.requests)
        done = run_on_hub(server, tmp_path / "home", SMALL_PIECES + CODE, *arguments)
        assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr
        assert of_model(server.requests[before:]) == [f"bytes={there}-"]
    assert sha256(tmp_path / "main/model.safetensors") == sha256(commit / "model.safetensors")


class Gated(Handler):
    """Tells anyone what there is, and gives files to those with the token."""

    def respond(self) -> None:
        token = self.headers.get("Authorization")
        if "/resolve/" in self.path and token != f"Bearer {TOKEN}":
            self.server.requests.append(self.path)
            self.refuse(403 if token else 401, "GatedRepo", "Access to model is restricted")
        else:
            super().respond()


@pytest.mark.parametrize("token", ["", "hf_another", TOKEN])
def test_a_gated_repository(root: Path, tmp_path: Path, token: str) -> None:
    with serve(root, REFS, Gated) as server:
        arguments = [NAME, str(tmp_path / "out"), token, "main"]
        done = run_on_hub(server, tmp_path / "home", CODE, *arguments)
    assert done.returncode == 0, done.stderr
    if token == TOKEN:
        assert not done.stdout and (tmp_path / "out/main/model.safetensors").exists()
    else:
        assert done.stdout == f"main: {NAME} at main: {hub.GATED}\n"
        assert not (tmp_path / "out/main").exists()


RESOLVE = """
from overtrain import PipelineError, hub
try:
    print(hub.resolve("allenai/tiny", "main", "model"))
except PipelineError as error:
    print(error)
"""


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_commit_is_asked_for_with_the_environments_token_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    seen = set()

    class Noted(Handler):
        def respond(self) -> None:
            seen.add(self.headers.get("Authorization"))
            super().respond()

    (tmp_path / "h").mkdir()
    (tmp_path / "h/token").write_text("hf_" + "login" * 6)  # what a login leaves
    with serve(root, REFS, Noted) as server:
        monkeypatch.setattr("hub.on_hub", lambda *own: on_hub(*own) | {"HF_TOKEN": token})
        done = run_on_hub(server, tmp_path / "h", RESOLVE)
    assert done.stdout.strip() == NEW, done.stderr
    assert seen == {f"Bearer {token}" if token else None}


def test_a_pinned_commit_is_taken_whatever_the_name_says(root: Path, tmp_path: Path) -> None:
    code = CODE.replace('with_suffix(".work"))', f'with_suffix(".work"), "{OLD}")')
    with serve(root, REFS) as server:
        done = run_on_hub(server, tmp_path / "h", code, NAME, str(tmp_path), TOKEN, "main")
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr
    written = manifest(tmp_path / "main")
    assert (written["commit"], written["revision"]) == (OLD, "main")


# --- pickled weights ------------------------------------------------------------------------------


def test_one_pickled_file_needs_no_index(tmp_path: Path) -> None:
    torch.save(weights(0), tmp_path / "pytorch_model.bin")
    (tmp_path / "out").mkdir()
    convert({"pytorch_model.bin": tmp_path / "pytorch_model.bin"}, tmp_path / "out", "here")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_views_and_strides_come_out_as_they_were(tmp_path: Path) -> None:
    whole = torch.arange(12, dtype=torch.bfloat16).view(3, 4)
    given = {"whole": whole, "row": whole[1], "turned": whole.t()}
    torch.save(given, tmp_path / "pytorch_model.bin")
    convert({"pytorch_model.bin": tmp_path / "pytorch_model.bin"}, tmp_path, "here")
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == given.keys()
    for key, tensor in given.items():
        assert found[key].dtype == torch.bfloat16 and torch.equal(found[key], tensor)


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    torch.save({"model": weights(0)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(PipelineError, match=r"^here, p\.bin: model is a dict, not a tensor$"):
        convert({"p.bin": tmp_path / "pytorch_model.bin"}, tmp_path, "here")


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("content", ["code", "truncated"])
def test_a_pickle_that_is_more_than_weights_is_not_run(tmp_path, monkeypatch, content) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": Evil()} if content == "code" else weights(0), path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PipelineError) as caught:
        convert({path.name: path}, tmp_path, "here")
    assert re.match(
        r"here, pytorch_model.bin: not a file of weights alone \([^\n]+\)$", str(caught.value)
    )
    assert not Path("ran").exists()

"""Checkpoints from a local hub and from folders: the revision asked for, whole, and safe."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from local_hub import Handler, on_hub, run_on_hub, serve
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from stories import documents
from transformers import AutoModelForCausalLM, AutoTokenizer

from overtrain import PipelineError
from overtrain.data import tokenizer
from overtrain.hub import client, download
from overtrain.hub.download import MANIFEST, convert, download_checkpoint
from overtrain.model.olmo import load_checkpoint
from overtrain.model.released import load_tokenizer
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
    (folder / "config.json").write_text(json.dumps({"model_type": "olmo", "seed": seed}))
    tokenizer.characters().save(folder)
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
from overtrain.hub.download import download_checkpoint

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
    assert wrong == f"nope: {NAME} at nope: no such revision"  # the nearest are check_sources'
    assert bare.startswith(f"bare: {NAME} at bare: needs config.json, tokenizer.json or ")
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


# --- a local folder -------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_revision(tmp_path / "source/ckpt_005", 5)
    write_revision(tmp_path / "source/ckpt_358", 6)
    return tmp_path / "source"


def test_a_local_folder_has_a_folder_for_each_revision(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    written = download_checkpoint(str(source), "ckpt_005", folder, tmp_path / "work")
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert set(written["files"]) == names and written["commit"] is None
    assert {p.name for p in folder.iterdir()} == {*names, MANIFEST}
    for name, digest in written["files"].items():
        assert sha256(folder / name) == sha256(source / "ckpt_005" / name) == digest
    other = download_checkpoint(str(source), "ckpt_358", tmp_path / "other", tmp_path / "work")
    assert other["sha256"] != written["sha256"]
    again = download_checkpoint(str(source), "ckpt_005", tmp_path / "again", tmp_path / "work")
    assert again == written
    assert not (tmp_path / "work").exists()


def test_a_copy_stays_when_its_source_is_written_to(source: Path, tmp_path: Path) -> None:
    written = download_checkpoint(str(source), "ckpt_005", tmp_path / "out", tmp_path / "work")
    with (source / "ckpt_005/model.safetensors").open("r+b") as file:
        file.write(b"?")
    assert sha256(tmp_path / "out/model.safetensors") == written["files"]["model.safetensors"]


def test_a_checkpoint_trained_here_stands_in_for_a_released_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "released"
    download_checkpoint(str(checkpoint.parent), checkpoint.name, folder, tmp_path / "work")
    copied = {path.name for path in folder.iterdir()} - {MANIFEST}
    assert copied == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in copied:
        assert (folder / name).read_bytes() == (checkpoint / name).read_bytes()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "olmo"
    theirs = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    tokens = torch.randint(0, 96, (3, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load_checkpoint(checkpoint)(tokens)
        torch.testing.assert_close(theirs(tokens).logits, ours, rtol=1e-4, atol=1e-5)
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert words.bos_token_id == words.eos_token_id == words.pad_token_id == 0
    assert words.model_max_length == 32
    text = "The ant finds the jade?\n"
    ids = words(text)["input_ids"]
    assert ids[-1] == 0 and len(ids) == len(text) and words.decode(ids) == text


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


def failure(repository: Path | str, tmp_path: Path, revision: str = "ckpt_005") -> str:
    """The line of a download that must fail and leave no folder."""
    folder = tmp_path / "checkpoint"
    with pytest.raises(PipelineError) as caught:
        download_checkpoint(str(repository), revision, folder, tmp_path / "work")
    line = str(caught.value)
    assert line.startswith(f"{repository} at {revision}") and "\n" not in line
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "work", "root"}
    return line.removeprefix(f"{repository} at {revision}")


def test_a_revision_that_is_not_there_names_the_nearest(source: Path, tmp_path: Path) -> None:
    line = failure(source, tmp_path, "ckpt_410")
    assert line == ": no such revision; nearest ckpt_358, ckpt_005 (of 2)"
    with pytest.raises(PipelineError, match=r"^/nowhere: no such folder$"):
        download_checkpoint("/nowhere", "main", tmp_path / "checkpoint", tmp_path / "work")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_a_checkpoint_needs_is_said(source: Path, tmp_path: Path, name: str) -> None:
    for other in ("pytorch_model.bin", name):
        (source / "ckpt_005" / other).unlink()
    assert failure(source, tmp_path).startswith(
        ": needs config.json, tokenizer.json or tokenizer.model with tokenizer_config.json, and "
        "model*.safetensors or pytorch_model*.bin; it has README.md, "
    )


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
    assert client.nearest(name, known) == expected


def test_where_nothing_is_near_some_of_what_there_is_is_named() -> None:
    assert client.no_revision("zzz", ["main", "a1", "b2", "c3"]) == (
        "no such revision; it has main, a1, b2, ..."
    )


def test_an_architecture_that_needs_code_is_refused_before_its_weights(
    large: Path, tmp_path: Path, served: Callable
) -> None:
    (large / "config.json").write_text(json.dumps({"model_type": "hf_olmo"}))
    requests = served(Handler)
    line = failure(NAME, tmp_path, "main")
    assert line == (
        ": model_type of config.json is 'hf_olmo'; it must be one of llama, olmo, olmo2"
    )
    assert of_file(requests, "config.json") == [""] and not of_model(requests)


def test_an_index_that_names_a_missing_shard(source: Path, tmp_path: Path) -> None:
    revision = source / "ckpt_005"
    (revision / "model.safetensors").rename(revision / "model-00001-of-00002.safetensors")
    places = {f"model.{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    index = "model.safetensors.index.json"
    (revision / index).write_text(json.dumps({"weight_map": places}))
    assert failure(source, tmp_path) == (
        f", {index}: names model-00002-of-00002.safetensors, which the revision does not have"
    )


# --- a tokenizer that is SentencePiece's ----------------------------------------------------------


@pytest.fixture
def pieces(large: Path) -> Path:
    """The hub's revision with a tokenizer as Llama's first: a model of SentencePiece, no more."""
    (large / "tokenizer.json").unlink()
    stories = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(documents(400, seed=0)),
        model_writer=stories,
        model_type="bpe",
        vocab_size=320,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (large / "tokenizer.model").write_bytes(stories.getvalue())
    (large / "config.json").write_text(json.dumps({"model_type": "llama"}))
    described = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    described |= {"add_bos_token": True}
    (large / "tokenizer_config.json").write_text(json.dumps(described))
    return large


def test_a_tokenizer_model_alone_is_downloaded_and_loaded(
    pieces: Path, tmp_path: Path, served: Callable
) -> None:
    served(Handler)
    folder = tmp_path / "out"
    download_checkpoint(NAME, "main", folder, tmp_path / "work")
    assert not (folder / "tokenizer.json").exists()
    words = load_tokenizer(folder)
    text = "The ant finds the jade; 3 of them,  naïve."
    model = SentencePieceProcessor(model_file=str(pieces / "tokenizer.model"))
    assert words(text).input_ids == [words.bos_token_id, *model.encode(text)]
    assert words.decode(words(text).input_ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tokenizer_config.json", '{"tokenizer_class": "Unknown"}', "class .* is 'Unknown'"),
        ("tokenizer_config.json", "{}", "tokenizer_class of tokenizer_config.json is None"),
        ("tokenizer_config.json", "{", "transformers cannot load its tokenizer"),
        ("tokenizer.model", "no model", "transformers cannot load its tokenizer"),
        ("tokenizer.json", "{}", "transformers cannot load its tokenizer"),
    ],
)
def test_a_tokenizer_that_transformers_misreads_is_refused_before_the_weights(
    pieces: Path, tmp_path: Path, served: Callable, name: str, content: str, expected: str
) -> None:
    (pieces / name).write_text(content)
    requests = served(Handler)
    assert re.search(expected, failure(NAME, tmp_path, "main"))
    assert of_file(requests, name) == [""] and not of_model(requests)


# --- a server that fails --------------------------------------------------------------------------

SIZE = 40_000  # bytes of the large tensor
PIECE = 4096  # bytes that the client writes at a time


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """served(handler) makes a server of what is in tmp_path the hub; returns its requests."""
    constants = huggingface_hub.constants
    with ExitStack() as servers:

        def start(handler: type[Handler]) -> list[str]:
            server = servers.enter_context(serve(tmp_path / "root", REFS, handler))
            template = "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
            monkeypatch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + template
            )
            return server.requests

        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", PIECE)
        monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
        huggingface_hub.close_session()
        yield start
    huggingface_hub.close_session()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A revision of the hub with a model of more than one piece."""
    folder = tmp_path / "root/models" / NAME / NEW
    write_revision(folder, 1)
    tensors = {"model.a": torch.arange(SIZE // 8)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def of_file(requests: list[str], name: str) -> list[str]:
    """The ranges in which a file was asked for, "" for the whole."""
    return [
        r.split(name, 1)[1].strip() for r in requests if r.startswith("GET") and f"/{name}" in r
    ]


def of_model(requests: list[str]) -> list[str]:
    return of_file(requests, "model.safetensors")


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
    line = failure(NAME, tmp_path, "main")
    assert re.match(r": the hub is not to be reached \(RemoteProtocolError: ", line)
    (half,) = (tmp_path / "work").rglob("model.safetensors")
    there = half.stat().st_size
    assert PIECE <= there < SIZE and there % PIECE == 0
    requests = served(Handler)
    written = download_checkpoint(NAME, "main", tmp_path / "out", tmp_path / "work")
    assert of_model(requests) == [f"bytes={there}-"]
    assert not of_file(requests, "config.json")  # whole already
    assert sha256(tmp_path / "out/model.safetensors") == written["files"]["model.safetensors"]
    assert sha256(large / "model.safetensors") == written["files"]["model.safetensors"]
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
    download_checkpoint(NAME, "main", tmp_path / "out", tmp_path / "work")
    first, second = of_model(requests)
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
    ("handler", "name", "expected"),
    [
        (Truncates, "model.safetensors", r"1,000 bytes came, of the SHA-256 \w{64}"),
        (Alters, "model.safetensors", r"{size} bytes came, of the SHA-256 \w{64}"),
        (AltersTokenizer, "tokenizer.json", r"{size} bytes came, of the git hash \w{40}"),
    ],
)
def test_a_file_that_is_not_what_the_hub_says(
    large: Path, tmp_path: Path, served: Callable, handler: type[Handler], name: str, expected: str
) -> None:
    served(handler)
    size = f"{(large / name).stat().st_size:,}"
    came = expected.replace("{size}", size)
    assert re.fullmatch(
        rf", {re.escape(name)}: {came}; the hub says {size}, \w+", failure(NAME, tmp_path, "main")
    )
    assert not list((tmp_path / "work").rglob(name))
    requests = served(Handler)  # what was wrong is gone, and what was right is kept
    download_checkpoint(NAME, "main", tmp_path / "out", tmp_path / "work")
    assert of_file(requests, name) == [""] and not of_file(requests, "config.json")


def test_a_kept_file_that_was_damaged_is_not_taken(
    large: Path, tmp_path: Path, served: Callable
) -> None:
    served(Dies)
    failure(NAME, tmp_path, "main")
    (whole,) = (tmp_path / "work").rglob("tokenizer.json")
    whole.write_bytes(whole.read_bytes()[:-1] + b"?")
    served(Handler)
    assert "the hub says" in failure(NAME, tmp_path, "main")
    download_checkpoint(NAME, "main", tmp_path / "out", tmp_path / "work")


def test_half_a_file_that_is_longer_than_the_hubs_is_not_kept_for_ever(
    large: Path, tmp_path: Path, served: Callable
) -> None:
    served(Dies)
    failure(NAME, tmp_path, "main")
    (half,) = (tmp_path / "work").rglob("model.safetensors")
    half.write_bytes(b"?" * 2 * SIZE)
    served(Handler)
    assert "80,000 bytes came" in failure(NAME, tmp_path, "main")
    download_checkpoint(NAME, "main", tmp_path / "out", tmp_path / "work")


def test_offline_a_local_folder_is_there_and_the_hub_is_not(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    line = failure(NAME, tmp_path, "main")
    assert re.match(
        rf": needs 0\.0 GB more on the disk of .*/work/{NEW}, which has 0\.0 GB free$", line
    )
    assert not any("/resolve/" in request for request in requests)


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
                download_checkpoint(NAME, "main", disk / "out", disk / "work")
        finally:
            download.shutil.disk_usage = real
        assert caught.value.errno == errno.ENOSPC  # which job.logged makes one line
        assert not (disk / "out").exists()
        (disk / "other").unlink()
        before = len(requests)
        download_checkpoint(NAME, "main", disk / "out", disk / "work")
        (rest,) = of_model(requests[before:])
        assert re.fullmatch(r"bytes=[1-9]\d*-", rest)  # what had come was not asked again
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- a killed process, a gated repository ---------------------------------------------------------

SMALL_PIECES = "import huggingface_hub.constants as c\nc.DOWNLOAD_CHUNK_SIZE = 4096\n"


class Waits(Handler):
    """Sends half of the model and then nothing, until the client is gone; all to the next."""

    def send_part(self, path: Path, start: int, stop: int) -> None:
        if path.name != "model.safetensors" or getattr(self.server, "killed", False):
            return super().send_part(path, start, stop)
        super().send_part(path, start, stop // 2)
        self.wfile.flush()
        while not getattr(self.server, "killed", False):
            time.sleep(0.01)


def killed_half_way(large: Path, code: str, *arguments: str) -> tuple[int, list[str]]:
    """Kill `code` once half of the model is below {large}/../../.., and run it again.

    Returns how many bytes were there, and the ranges of the model that the second run asked for.
    """
    there = large.parents[3]

    def arrived() -> int:
        found = [*there.glob("*.work/*/model.safetensors"), *there.rglob("*.incomplete")]
        return sum(path.stat().st_size for path in found)

    with serve(there, REFS, Waits) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SMALL_PIECES + code, *arguments],
            env=on_hub(server, there / "home"),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not arrived():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.killed = True
        half, before = arrived(), len(server.requests)
        done = run_on_hub(server, there / "home", SMALL_PIECES + code, *arguments)
        assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr
    return half, of_model(server.requests[before:])


def test_a_killed_download_goes_on(large: Path) -> None:
    there = large.parents[3]
    half, asked = killed_half_way(large, CODE, NAME, str(there), TOKEN, "main")
    assert 0 < half < SIZE and asked == [f"bytes={half}-"]
    assert sha256(there / "main/model.safetensors") == sha256(large / "model.safetensors")


THEIRS = """
import sys
from huggingface_hub import hf_hub_download
hf_hub_download(sys.argv[1], "model.safetensors", **dict([sys.argv[2].split("=")]))
"""


@pytest.mark.parametrize("option", ["local_dir", "cache_dir"])
def test_huggingface_hub_starts_a_killed_download_again(large: Path, option: str) -> None:
    """Why `download.of_hub` fetches files itself: once this fails, `hf_hub_download` may do it."""
    half, asked = killed_half_way(large, THEIRS, NAME, f"{option}={large.parents[3] / 'theirs'}")
    assert 0 < half < SIZE and asked == [""]


def test_huggingface_hub_compares_no_hash(large: Path, tmp_path: Path, served: Callable) -> None:
    served(Alters)
    path = huggingface_hub.hf_hub_download(NAME, "model.safetensors", local_dir=tmp_path / "theirs")
    assert sha256(Path(path)) != sha256(large / "model.safetensors")


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
        assert done.stdout == f"main: {NAME} at main: {client.GATED}\n"
        assert not (tmp_path / "out/main").exists()


ASK = """
from overtrain.hub import client
print(client.api().repo_info("allenai/tiny", revision="main").sha)
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
        monkeypatch.setattr("local_hub.on_hub", lambda *own: on_hub(*own) | {"HF_TOKEN": token})
        done = run_on_hub(server, tmp_path / "h", ASK)
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

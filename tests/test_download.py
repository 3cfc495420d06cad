"""Checkpoints from a local server that speaks the hub's API: the revision asked for, and safe."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from hub import Handler, run_on_hub, serve
from safetensors.torch import load_file, save_file

from overtrain import PipelineError
from overtrain.download import MANIFEST, convert, download_checkpoint
from overtrain.provenance import sha256

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
        (folder / name).write_text(json.dumps({"seed": seed}))
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
    (folder / "pytorch_model.bin.index.json").write_text("{}")


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
    assert json.loads((folder / "config.json").read_text()) == {"seed": 0}
    found = load_file(folder / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(0).items())
    written = manifest(folder)
    assert (written["commit"], written["revision"]) == (OLD, "step10-tokens1B")
    assert written["repository"] == NAME
    assert written["files"] == {name: sha256(folder / name) for name in names}
    asked = [r for r in downloaded[2] if "/resolve/" in r]
    assert asked and not any("not_" in r or "README" in r or ".py" in r for r in asked)
    assert all(f"/resolve/{OLD}/" in r or f"/resolve/{PICKLED}/" in r for r in asked)


def test_pickled_weights_become_safetensors_with_an_index(downloaded) -> None:
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
    assert manifest(folder)["converted_from"] == [
        f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)
    ]


def test_wrong_names_are_one_line_and_leave_nothing(downloaded) -> None:
    folder, done, _ = downloaded
    wrong, bare, repository = done.stdout.splitlines()
    assert wrong == f"nope: {NAME} at nope: no such revision"
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


def test_a_local_folder_has_a_folder_for_each_revision(tmp_path: Path) -> None:
    write_revision(tmp_path / "source/step5", 5)
    source, folder = str(tmp_path / "source"), tmp_path / "checkpoint"
    written = download_checkpoint(source, "step5", folder, tmp_path / "work")
    assert written["commit"] == "step5"
    found = load_file(folder / "model.safetensors")
    assert torch.equal(found["model.b"], weights(5)["model.b"])
    again = download_checkpoint(source, "step5", tmp_path / "again", tmp_path / "work")
    assert again["sha256"] == written["sha256"]
    with pytest.raises(PipelineError, match=r"source at step6: no such folder in it$"):
        download_checkpoint(source, "step6", folder, tmp_path / "work")


def test_one_pickled_file_needs_no_index(tmp_path: Path) -> None:
    torch.save(weights(0), tmp_path / "pytorch_model.bin")
    (tmp_path / "out").mkdir()
    convert([tmp_path / "pytorch_model.bin"], tmp_path / "out", "here")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


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
        convert([path], tmp_path, "here")
    assert re.match(
        r"here, pytorch_model.bin: not a file of weights alone \([^\n]+\)$", str(caught.value)
    )
    assert not Path("ran").exists()

"""Seeds, hashes, the commit, and outputs that are whole or not there."""

import json
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from overtrain.records.provenance import (
    PACKAGES,
    git_commit,
    provenance,
    remove_partials,
    seed_of,
    sha256,
    whole_file,
    whole_folder,
    write_json,
)


def test_seeds_are_the_same_on_every_machine_for_ever():
    assert seed_of("initial weights", "OLMo-30M", 0) == 3301298358044768072
    assert seed_of() == 2858069222894195974
    assert seed_of("dropout", "gsm8k", "default", 4e-6, 2) == 6886461060561592977


def test_seeds_tell_apart_what_is_different_and_fit_every_generator():
    identities = [("a", 1), ("a", "1"), ("a1",), ("a", 1, ""), (1, "a"), ("a", 2)]
    seeds = {seed_of(*identity) for identity in identities}
    assert len(seeds) == len(identities)
    assert all(0 <= seed_of("range", i) < 2**63 for i in range(200))
    assert max(seed_of("range", i) for i in range(200)) > 2**62


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.fixture
def repository(tmp_path) -> Path:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    (tmp_path / "code.py").write_text("one = 1\n")
    for command in (["init"], ["add", "."], ["commit", "-m", "one"], ["tag", "-m", "v1", "v1"]):
        subprocess.run(["git", *settings, *command], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_the_commit_says_whether_tracked_files_differ(repository):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert git_commit(repository) == head  # the hash, although a tag names it
    (repository / "untracked").write_text("results\n")
    assert git_commit(repository) == head
    (repository / "code.py").write_text("one = 2\n")
    assert git_commit(repository) == f"{head}+"


def test_outside_git_the_commit_is_unknown(repository):
    shutil.rmtree(repository / ".git")
    assert git_commit(repository) == "unknown"


def test_provenance_holds_what_a_result_depends_on_and_neither_time_nor_place():
    made = provenance({"layers": 2}, {"corpus": "abc"}, "cpu", model="tiny", seed=3)
    assert made == provenance({"layers": 2}, {"corpus": "abc"}, "cpu", model="tiny", seed=3)
    assert made["config"] == {"layers": 2} and made["data"] == {"corpus": "abc"}
    assert (made["device"], made["model"], made["seed"]) == ("cpu", "tiny", 3)
    assert made["commit"] == git_commit()
    assert made["versions"]["torch"] == metadata.version("torch")
    assert set(made) == {"commit", "config", "data", "device", "model", "seed", "versions"}
    assert str(Path.cwd()) not in json.dumps(made)


def test_versions_are_those_of_all_that_can_change_a_result():
    versions = provenance({}, {})["versions"]
    optional = {"vllm"}  # beside the lock
    assert set(PACKAGES) - optional <= set(versions)  # a misspelt one is not there
    assert {"accelerate", "alpaca-eval", "lm-eval", "openai", "peft", "rouge-score", "trl"} <= set(
        versions
    )
    assert versions["lm-eval"] == metadata.version("lm_eval")


# --- whole or not at all --------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_whole_at_the_end(tmp_path):
    path = tmp_path / "new" / "file.parquet"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".parquet" and temporary.parent == path.parent
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["new", "new/file.parquet"]


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("before")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["file.json"] and path.read_text() == "before"


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path):
    path = tmp_path / "new" / "folder"
    for content in ("one", "two"):
        with whole_folder(path) as temporary:
            (temporary / content).write_text(content)
            assert not (path / content).exists()
    assert names(tmp_path) == ["new", "new/folder", "new/folder/two"]


def test_a_folder_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "before").touch()
    with pytest.raises(RuntimeError), whole_folder(path) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["folder", "folder/before"]


def test_outputs_have_the_permissions_that_the_umask_allows(tmp_path):
    """safetensors writes files that their owner alone can read; a project has several members."""
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.safetensors") as temporary:
            save_file({"a": torch.zeros(1)}, temporary)
            assert temporary.stat().st_mode & 0o777 == 0o600
        with whole_folder(tmp_path / "folder") as temporary:
            (temporary / "inside").mkdir()
            save_file({"a": torch.zeros(1)}, temporary / "inside" / "a.safetensors")
            (temporary / "run").touch(0o700)
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder/inside/a.safetensors").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder/run").stat().st_mode & 0o777 == 0o740  # nothing is taken away


def test_two_writers_of_one_file_leave_each_other_alone(tmp_path):
    """What is left of dead ones is removed by who has the lock, and by nobody else."""
    path = tmp_path / "0.84M"
    dead = tmp_path / ".0.84M.elsewhere-7.partial.84M"
    dead.mkdir()
    with whole_folder(path) as temporary:
        assert dead.exists() and temporary != dead
    other = tmp_path / ".0.84M-seed1.elsewhere-7.partial"
    other.touch()  # of another output
    (tmp_path / ".rows.parquet.elsewhere-7.partial.parquet").touch()
    remove_partials(path)
    remove_partials(tmp_path / "rows.parquet")
    assert names(tmp_path) == [other.name, "0.84M"]


def test_json_is_sorted_ends_its_line_and_is_whole_or_not_there(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1], "a": {"d": 1, "c": 2}})
    write_json(tmp_path / "b.json", {"a": {"c": 2, "d": 1}, "b": [1]})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text() and text.endswith("}\n")
    assert text.index('"a"') < text.index('"b"')
    with pytest.raises(TypeError):
        write_json(tmp_path / "c.json", {"a": object()})
    assert names(tmp_path) == ["a.json", "b.json"]

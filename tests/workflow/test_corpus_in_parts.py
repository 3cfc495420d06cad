"""A corpus of the hub through the real rules: parts, what is kept between runs, what is not."""

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from local_hub import Handler, Hub, on_hub, serve

from overtrain.data import tokenizer

COMMIT = "a" * 40
FILES = "en/c4-train.{:05d}-of-01024.json.gz"
CORPUS = "results/corpora/c4"


def text(file: int) -> list[str]:
    tails = [" ".join(str(i * k) for k in range(40 + i)) for i in range(60)]
    return [f"{file}: document {i} of the web, {tail}" for i, tail in enumerate(tails)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """C4 and a tokenizer on a hub: about 9,700 training tokens in each of four files."""
    folder = tmp_path / "root/datasets/allenai/c4" / COMMIT
    (folder / "en").mkdir(parents=True)
    for file in range(4):
        with gzip.open(folder / FILES.format(file), "wt") as stream:
            stream.writelines(json.dumps({"text": own}) + "\n" for own in text(file))
    model = tmp_path / "root/models/allenai/OLMo-1B-hf" / COMMIT
    model.mkdir(parents=True)
    tokenizer.train_bpe(text(0), 300).save(model)
    return tmp_path / "root"


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "copy", symlinks=True))


def build(copy: Path, hub: Hub, tokens: int, *arguments: str) -> subprocess.CompletedProcess:
    """Four files in two parts, of which the corpus needs so many tokens."""
    source = {"file_count": 4, "file_tokens": 10**6, "files_per_part": 2}
    corpus = {"source": source, "train_tokens": tokens, "held_out": 5}
    (copy / "own.yaml").write_text(yaml.safe_dump({"corpora": {"c4": corpus}}))
    line = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--configfile"]
    line += ["profiles/demo/overlay.yaml", "own.yaml", *arguments, "--", CORPUS]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(line, cwd=copy, env=on_hub(hub, copy / "home"), **streams)


def finished(run: subprocess.CompletedProcess) -> list[str]:
    return sorted(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", run.stdout))


def asked(hub: Hub) -> list[int]:
    """Source files that were sent."""
    sent = [r for r in hub.requests if r.startswith("GET ") and "c4-train." in r]
    return sorted(int(request.split("c4-train.")[1][:5]) for request in sent)


class Lacks(Handler):
    """A hub that breaks off before the last file."""

    def send_file(self, path: Path, commit: str) -> None:
        if "c4-train.00003" in path.name:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        super().send_file(path, commit)


def test_what_is_done_stays_until_the_corpus_is_there_and_then_goes(root, copy):
    with serve(root, {"main": COMMIT}, Lacks) as hub:
        first = build(copy, hub, 10**6)
    assert first.returncode != 0
    assert finished(first) == ["download_text", "tokenise"], first.stdout
    assert [path.name for path in (copy / "results/shards/c4").iterdir()] == ["00000-00001"]
    assert not (copy / "results/texts/c4/00000-00001").exists()  # what is tokenised is gone

    with serve(root, {"main": COMMIT}) as hub:
        second = build(copy, hub, 10**6)
    assert second.returncode != 0
    assert asked(hub) == [3]  # alone
    assert finished(second) == ["download_text", "tokenise"], second.stdout
    line = (copy / "results/logs/build_corpus/c4.log").read_text()
    assert line.startswith("error: corpora.c4.source.file_count is 4, and so many files of allenai")
    assert "train_tokens asks for 1,000,000: raise file_count or lower train_tokens" in line

    with serve(root, {"main": COMMIT}) as hub:
        third = build(copy, hub, 25_000)
        assert third.returncode == 0, third.stdout
        assert finished(third) == ["build_corpus"] and asked(hub) == []
        assert "Nothing to be done" in build(copy, hub, 25_000, "-n").stdout
    names = {path.name for path in (copy / CORPUS).iterdir()}
    shards = {f"{split}-0000{n}.bin" for split in ("train", "held_out") for n in range(3)}
    described = {"manifest.json", "verified.json", "provenance.json"}
    assert names == shards | described | {"tokenizer.json", "tokenizer_config.json"} | {
        name for name in names if name.startswith(".snakemake")
    }
    for folder in ("texts", "shards", "state/shards", "state/texts"):
        place = copy / "results" / folder
        assert not [path for path in place.rglob("*") if path.is_file()], folder

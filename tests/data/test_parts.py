"""A corpus in parts: downloaded, tokenised without a network, put together, file by file."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from local_hub import SCRIPTS, Handler, run_on_hub, serve

from overtrain import PipelineError
from overtrain.config.corpora import HubCorpus
from overtrain.data import corpora, parts, tokenizer
from overtrain.data.corpora import Corpus, is_held_out
from overtrain.records.provenance import sha256

FILES = "en/c4-train.{:05d}-of-01024.json.gz"
OLD, NEW = "a" * 40, "b" * 40


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def documents(corpus: Path, split: str) -> list[list[int]]:
    """The ids of every document of a split, which the end-of-text id closes."""
    manifest = json.loads((corpus / "manifest.json").read_text())
    found: list[list[int]] = []
    for shard in manifest["splits"][split]["shards"]:
        ids = np.fromfile(corpus / shard["file"], dtype="<u2")
        assert ids[-1] == manifest["end_of_text"]
        found += [d.tolist() for d in np.split(ids, np.flatnonzero(ids == ids[-1]) + 1)[:-1]]
    return [ids[:-1] for ids in found]


def error_line(action: Callable) -> str:
    """The message of the PipelineError that `action` ends in: one line."""
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def hub_text(revision: str, file: int) -> list[str]:
    tails = [" ".join(str(i * k) for k in range(40 + i)) for i in range(60)]
    return [f"{revision}{file}: document {i} of the web, {tail}" for i, tail in enumerate(tails)]


def write_files(folder: Path, revision: str, count: int = 4, column: str = "text") -> None:
    """Files as allenai/c4 has them."""
    (folder / "en").mkdir(parents=True)
    for file in range(count):
        with gzip.open(folder / FILES.format(file), "wt") as stream:
            for text in hub_text(revision, file):
                row = {column: text, "timestamp": "2019-04-25T12:57:54Z", "url": "https://a.org"}
                stream.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A corpus of three of four local files, with a local tokenizer."""
    folder = tmp_path_factory.mktemp("hub")
    write_files(folder / "c4", "a")
    (folder / "tokenizer").mkdir()
    tokenizer.train_bpe(hub_text("a", 0), 300).save(folder / "tokenizer")
    source = {
        "dataset": str(folder / "c4"),
        "revision": "main",
        "files": FILES,
        "file_count": 4,
        "text_column": "text",
    }
    hub = {
        "repository": str(folder / "tokenizer"),
        "revision": "main",
        "end_of_text": tokenizer.END_OF_TEXT,
    }
    return {
        "kind": "hub",
        "source": source,
        "tokenizer": {"hub": hub},
        "held_out": 5,
        "train_tokens": 25_000,
    }


def cut(config: dict, files_per_part: int) -> list[str]:
    """The names of a corpus's parts."""
    jobs = {"file_mb": 1, "file_tokens": 25_000, "files_per_part": files_per_part}
    return HubCorpus(**config | {"title": "C4", "source": config["source"] | jobs}).parts


def build(config: dict, folder: Path, files_per_part: int = 2, threads: int = 1) -> Path:
    """The corpus, through all three steps."""
    names = cut(config, files_per_part)
    for part in names:
        parts.download(config, part, folder / "texts" / part, folder / "download" / part)
        own = folder / "texts" / part, folder / "shards" / part, folder / "work" / part
        parts.tokenise(config, *own, threads)
    parts.assemble(config, [folder / "shards" / part for part in names], folder / "c4")
    return folder / "c4"


@pytest.fixture(scope="module")
def built(config: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import datasets  # noqa: F401  once here, so that no forked worker needs to
    import torch  # noqa: F401  which datasets imports when it streams

    return build(config, tmp_path_factory.mktemp("built"))


# --- the corpus -----------------------------------------------------------------------------------


def test_parts_are_named_by_their_first_and_last_file(config: dict) -> None:
    assert cut(config, 2) == ["00000-00001", "00002-00003"]
    assert cut(config, 3) == ["00000-00002", "00003-00003"]
    assert cut(config, 500) == ["00000-00003"]


def test_a_corpus_holds_the_files_in_order_and_no_more_than_it_needs(
    config: dict, built: Path
) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    encoder = tokenizer.load_encoder(Path(config["tokenizer"]["hub"]["repository"]))
    shards = manifest["splits"]["train"]["shards"]
    tokens = [shard["tokens"] for shard in shards]
    assert sum(tokens[:-1]) < 25_000 <= sum(tokens)
    assert len(shards) == 3  # not the fourth file, which its part has: there are tokens enough
    assert not (built / "train-00003.bin").exists()
    for split in corpora.SPLITS:
        texts = [text for file in range(3) for text in hub_text("a", file)]
        kept = [text for text in texts if is_held_out(text, 5) == (split == "held_out")]
        assert documents(built, split) == [ids.tolist() for ids in encoder.encode(kept)]
        Corpus(built).verify(split)
        for shard in manifest["splits"][split]["shards"]:
            assert sha256(built / shard["file"]) == shard["sha256"]


@pytest.mark.parametrize(("files_per_part", "threads"), [(1, 1), (3, 2), (4, 8)])
def test_bytes_depend_on_neither_parts_nor_threads(
    config: dict, built: Path, tmp_path: Path, files_per_part: int, threads: int
) -> None:
    assert contents(build(config, tmp_path, files_per_part, threads)) == contents(built)


def test_nothing_is_copied(built: Path) -> None:
    place = built.parent
    shard, part = built / "train-00000.bin", place / "shards/00000-00001/train-00000.bin"
    assert shard.samefile(part) and shard.samefile(place / "work/00000-00001/train-00000.bin")
    assert not list((place / "download").iterdir())  # half a download is whole and gone


def test_where_there_are_no_links_a_copy_is_verified(
    config: dict, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    names = [built.parent / "shards" / part for part in cut(config, 2)]
    parts.assemble(config, names, tmp_path / "c4")
    assert contents(tmp_path / "c4") == contents(built)
    lose = lambda source, target: target.write_bytes(source.read_bytes()[:-1] + b"?")  # noqa: E731
    monkeypatch.setattr(shutil, "copyfile", lose)
    line = error_line(lambda: parts.assemble(config, names, tmp_path / "other"))
    assert "train-00000.bin: the disk does not hold what was written" in line


def test_too_few_tokens_name_the_key(config: dict, built: Path, tmp_path: Path) -> None:
    names = [built.parent / "shards" / part for part in cut(config, 2)]
    wanted = config | {"train_tokens": 10**6}
    line = error_line(lambda: parts.assemble(wanted, names, tmp_path / "c4"))
    assert line.startswith("corpora.c4.source.file_count is 4, and so many files of ")
    assert "train_tokens asks for 1,000,000" in line
    assert not (tmp_path / "c4").exists() and all(path.exists() for path in names)


def test_parts_of_two_commits_are_not_mixed(config: dict, built: Path, tmp_path: Path) -> None:
    names = [tmp_path / part for part in cut(config, 2)]
    for path in names:
        shutil.copytree(built.parent / "shards" / path.name, path)
    content = json.loads((names[1] / parts.PART).read_text())
    content["origin"]["revision"] = NEW
    (names[1] / parts.PART).write_text(json.dumps(content))
    line = error_line(lambda: parts.assemble(config, names, tmp_path / "c4"))
    assert line.startswith(f"{names[1]}: made of ") and NEW in line


# --- tokenising -----------------------------------------------------------------------------------

TOKENISE = """
import json, os, signal, socket, sys
from itertools import islice
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        raise OSError(f"no network here: {event}")

sys.addaudithook(refuse)
from overtrain.data import corpora, parts

config, texts, shards, work, die_in = json.loads(sys.argv[1]), *sys.argv[2:]
write, corpora.BATCH = parts.write_shards, 4  # documents: so that some are written when it dies

def texts_until_killed(texts):
    yield from islice(texts, 30)
    os.killpg(0, signal.SIGKILL)

def write_shards(texts, *rest):
    print("tokenises", rest[-1], os.environ["RAYON_NUM_THREADS"], flush=True)
    return write(texts_until_killed(texts) if rest[-1] == die_in else texts, *rest)

parts.write_shards = write_shards
parts.tokenise(config, Path(texts), Path(shards), Path(work), 3)
"""


def tokenise(config: dict, folder: Path, die_in: str = "") -> subprocess.CompletedProcess:
    """Tokenise the part in `folder`/texts in a process that has no network."""
    arguments = [str(folder / name) for name in ("texts", "shards", "work")]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    own = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "USE_TORCH": "0"}
    return subprocess.run(
        [sys.executable, "-c", TOKENISE, json.dumps(config), *arguments, die_in],
        env=kept | own | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )


def test_a_killed_tokenising_goes_on_with_the_next_file_and_needs_no_network(
    config: dict, built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built.parent / "texts/00000-00001", tmp_path / "texts")
    killed = tokenise(config, tmp_path, die_in="00001")
    assert killed.returncode == -9, killed.stderr
    work = tmp_path / "work"
    finished = {path.stem for path in work.glob("0*.json")}
    assert not (tmp_path / "shards").exists()
    assert (work / "train-00001.bin").stat().st_size > 0  # half of a shard
    again = tokenise(config, tmp_path)
    assert again.returncode == 0, again.stderr
    left = {"00000", "00001"} - finished
    told = sorted(again.stdout.splitlines())
    assert told == [f"tokenises {number} 1" for number in sorted(left)]  # a thread for each process
    once_more = tokenise(config, tmp_path)
    assert (once_more.returncode, once_more.stdout) == (0, "")  # the work waits for the corpus
    assert contents(tmp_path / "shards") == contents(built.parent / "shards/00000-00001")


def test_processes_share_the_threads_of_the_job(config: dict, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built.parent / "texts/00000-00001", tmp_path / "texts")
    (tmp_path / "texts" / parts.PART).write_text(
        json.dumps(
            json.loads((tmp_path / "texts" / parts.PART).read_text())
            | {"files": {"00000": FILES.format(0)}}
        )
    )
    done = tokenise(config, tmp_path)
    assert done.stdout == "tokenises 00000 3\n", done.stderr  # one file: one process of three


def test_shards_of_another_configuration_are_made_again(
    config: dict, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts, work = built.parent / "texts/00000-00001", tmp_path / "work"
    parts.tokenise(config, texts, tmp_path / "one", work, 1)
    parts.tokenise(config | {"held_out": 6}, texts, tmp_path / "two", work, 1)
    assert f"{work}: removes shards of another configuration" in capsys.readouterr().out
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one["train-00000.bin"] != two["train-00000.bin"]


def test_missing_column_is_named(config: dict, tmp_path: Path) -> None:
    write_files(tmp_path / "source", "a", 1, column="content")
    source = {"dataset": str(tmp_path / "source"), "file_count": 1}
    line = error_line(lambda: build(config | {"source": config["source"] | source}, tmp_path))
    assert line.startswith(f"{tmp_path / 'source'}: no column 'text'; it has ['content', ")


@pytest.mark.parametrize("damage", ["missing", "truncated", "no json"])
def test_unreadable_source_file_is_named(config: dict, tmp_path: Path, damage: str) -> None:
    write_files(tmp_path / "source", "a", 1)
    path = tmp_path / "source" / FILES.format(0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else gzip.compress(b"a"))
    if damage == "missing":
        path.unlink()
    source = {"dataset": str(tmp_path / "source"), "file_count": 1}
    line = error_line(lambda: build(config | {"source": config["source"] | source}, tmp_path))
    assert FILES.format(0) in line


# --- the hub --------------------------------------------------------------------------------------

DOWNLOAD = """
import json, sys
from pathlib import Path
from overtrain import PipelineError
from overtrain.data import parts

config, folder, *names = json.loads(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
for part in names:
    try:
        parts.download(config, part, folder / "texts" / part, folder / "download" / part)
    except PipelineError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories of a hub: the data set and the tokenizer at a commit, and after it."""
    root = tmp_path_factory.mktemp("root")
    for commit in (OLD, NEW):
        write_files(root / "datasets/allenai/c4" / commit, commit[0])
        model = root / "models/allenai/OLMo-1B-hf" / commit
        model.mkdir(parents=True)
        tokenizer.train_bpe(hub_text("a", 0), 300 if commit == OLD else 280).save(model)
    return root


def on_hub(config: dict, **changes: dict) -> dict:
    """The same corpus, of the hub's repositories at the commit that main has left behind."""
    hub = {"repository": "allenai/OLMo-1B-hf", "revision": OLD} | changes.get("hub", {})
    source = {"dataset": "allenai/c4", "revision": OLD} | changes.get("source", {})
    own = {"source": config["source"] | source}
    return config | own | {"tokenizer": {"hub": config["tokenizer"]["hub"] | hub}}


def files_asked(requests: list[str]) -> Counter:
    """How often each source file was asked for."""
    return Counter(
        int(request.split("c4-train.")[1][:5])
        for request in requests
        if request.startswith("GET ") and "c4-train." in request
    )


def test_a_part_comes_at_its_commit_and_goes_on_where_it_was_stopped(
    config: dict, built: Path, root: Path, tmp_path: Path
) -> None:
    config = on_hub(config)
    names = cut(config, 2)

    class Lacks(Handler):
        """A hub that has the second file not yet."""

        def send_file(self, path: Path, commit: str) -> None:
            if "c4-train.00001" in path.name:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            super().send_file(path, commit)

    arguments = json.dumps(config), str(tmp_path)
    with serve(root, {"main": NEW}, Lacks) as hub:
        first = run_on_hub(hub, tmp_path / "home", DOWNLOAD, *arguments, names[0])
    assert first.stdout.count("\n") == 1 and "allenai/c4" in first.stdout, first.stderr
    assert not (tmp_path / "texts").exists()
    half = tmp_path / "download" / names[0] / OLD / FILES.format(1)
    whole = root / "datasets/allenai/c4" / OLD / FILES.format(1)
    half.write_bytes(whole.read_bytes()[:1000])  # as a process that was killed leaves it
    with serve(root, {"main": NEW}) as hub:
        done = run_on_hub(hub, tmp_path / "home", DOWNLOAD, *arguments, *names)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert files_asked(hub.requests) == {1: 1, 2: 1, 3: 1}  # the first is here
    assert any("c4-train.00001" in r and r.endswith("bytes=1000-") for r in hub.requests)
    assert not (tmp_path / "download" / names[0]).exists()
    for part in names:
        own = tmp_path / "texts" / part, tmp_path / "shards" / part, tmp_path / "work" / part
        parts.tokenise(config, *own, 1)
    corpus = tmp_path / "c4"
    manifest = parts.assemble(config, [tmp_path / "shards" / part for part in names], corpus)
    assert manifest["source"]["dataset"] == "allenai/c4"
    assert manifest["source"]["revision"] == OLD
    assert manifest["source"]["tokenizer"]["revision"] == OLD
    ours, theirs = contents(corpus), contents(built)
    assert ours.pop("manifest.json") != theirs.pop("manifest.json")
    assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"source": {"revision": "nope"}}, ["allenai/c4", "nope"]),
        ({"source": {"dataset": "allenai/c5"}}, ["allenai/c5"]),
        ({"source": {"files": "en/c4.{}.json.gz"}}, ["en/c4.0.json.gz", "2 missing"]),
        ({"hub": {"revision": "nope"}}, ["allenai/OLMo-1B-hf", "nope"]),
        ({"hub": {"repository": "allenai/OLMo"}}, ["allenai/OLMo"]),
    ],
    ids=["revision", "data set", "files", "tokenizer's revision", "tokenizer"],
)
def test_what_the_hub_does_not_have_is_one_line(
    config: dict, root: Path, tmp_path: Path, changes: dict, named: list[str]
) -> None:
    wrong = json.dumps(on_hub(config, **changes))
    with serve(root, {"main": NEW}) as hub:
        done = run_on_hub(hub, tmp_path / "home", DOWNLOAD, wrong, str(tmp_path), "00000-00001")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and all(name in done.stdout for name in named)

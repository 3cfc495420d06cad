"""Corpora: the same at every build, split by content, checked by hash, read without repeats."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from local_hub import run_on_hub, serve
from tokenizers import Tokenizer, models, pre_tokenizers

from overtrain import PipelineError
from overtrain.data import corpora, tokenizer
from overtrain.data.corpora import Corpus, Windows, is_held_out, ordered_windows, shuffled
from overtrain.data.docstrings import extract
from overtrain.records.provenance import sha256

DOCSTRINGS = {
    "kind": "docstrings",
    "packages": ["fsspec"],
    "tokenizer": {"kind": "bpe", "vocabulary": 400},
    "held_out": 8,
}
FILES = "en/c4-train.{:05d}-of-01024.json.gz"


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


# --- embedded text --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "pydoc"
    corpora.build_from_docstrings(DOCSTRINGS, folder, workers=1)
    return folder


def test_manifest_describes_the_shards(embedded: Path) -> None:
    manifest = json.loads((embedded / "manifest.json").read_text())
    assert manifest["source"] == {"docstrings": {"fsspec": version("fsspec")}}
    assert manifest["vocabulary"] == 400
    hashes = ""
    for split in corpora.SPLITS:
        (shard,) = manifest["splits"][split]["shards"]
        path = embedded / shard["file"]
        assert path.stat().st_size == 2 * shard["tokens"]
        assert shard["sha256"] == sha256(path)
        assert shard["documents"] == len(documents(embedded, split))
        assert manifest["splits"][split]["tokens"] == shard["tokens"]
        assert manifest["splits"][split]["documents"] == shard["documents"]
        hashes += shard["sha256"]
    assert manifest["sha256"] == hashlib.sha256(hashes.encode()).hexdigest()


def test_splits_are_disjoint_and_hold_every_document(embedded: Path) -> None:
    encoder = tokenizer.load_encoder(embedded)
    splits = {
        split: [encoder.tokenizer.decode(ids) for ids in documents(embedded, split)]
        for split in corpora.SPLITS
    }
    assert not set(splits["train"]) & set(splits["held_out"])
    assert sorted(splits["train"] + splits["held_out"]) == sorted(
        document.text for document in extract(["fsspec"])
    )
    assert all(is_held_out(text, 8) for text in splits["held_out"])


def test_tokenizer_learns_from_the_training_split_alone(embedded: Path) -> None:
    texts = [document.text for document in extract(["fsspec"])]
    training = tokenizer.train_bpe((t for t in texts if not is_held_out(t, 8)), 400)
    built = tokenizer.load_encoder(embedded).tokenizer.to_str()
    assert (
        built == training.tokenizer.to_str() != tokenizer.train_bpe(texts, 400).tokenizer.to_str()
    )


def test_second_build_has_the_same_bytes(embedded: Path, tmp_path: Path) -> None:
    corpora.build_from_docstrings(DOCSTRINGS, tmp_path / "pydoc", workers=2)
    assert contents(tmp_path / "pydoc") == contents(embedded)
    assert [path.name for path in tmp_path.iterdir()] == ["pydoc"]


def test_characters(tmp_path: Path) -> None:
    config = DOCSTRINGS | {"tokenizer": {"kind": "characters"}}
    manifest = corpora.build_from_docstrings(config, tmp_path / "pydoc", workers=1)
    texts = [document.text for document in extract(["fsspec"])]
    kept = "".join(text + "\n" for text in texts if not is_held_out(text, 8))
    ids = np.fromfile(tmp_path / "pydoc/train-00000.bin", dtype="<u2")
    assert "".join(tokenizer.SYMBOLS[i] for i in ids) == kept
    assert manifest["splits"]["train"]["tokens"] == len(kept)


def test_empty_split_is_named(tmp_path: Path) -> None:
    config = DOCSTRINGS | {"held_out": 10**12}
    line = error_line(lambda: corpora.build_from_docstrings(config, tmp_path / "pydoc", 1))
    assert "the held_out split is empty" in line
    assert list(tmp_path.iterdir()) == []  # nothing half-written stays


@pytest.mark.parametrize("one_in", [2, 40, 1000])
def test_about_one_in_so_many_is_held_out(one_in: int) -> None:
    n = 20_000
    held = sum(is_held_out(f"document {i}", one_in) for i in range(n))
    assert abs(held - n / one_in) < 4 * (n / one_in) ** 0.5


# --- damage ---------------------------------------------------------------------------------------


@pytest.fixture
def copy(embedded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(embedded, tmp_path / "pydoc")


@pytest.mark.parametrize("split", corpora.SPLITS)
@pytest.mark.parametrize("damage", ["truncated", "longer", "flipped", "missing"])
def test_damaged_shard_is_named(copy: Path, split: str, damage: str) -> None:
    path = copy / f"{split}-00000.bin"
    content = bytearray(path.read_bytes())
    Corpus(copy).verify(split)
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-2], "longer": content + b"ab"}.get(damage, content))
    if damage == "missing":
        path.unlink()
    assert error_line(lambda: Corpus(copy).verify(split)).startswith(f"{path}: ")
    for other in set(corpora.SPLITS) - {split}:
        Corpus(copy).verify(other)


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_unreadable_manifest_is_named(copy: Path, content: str | None) -> None:
    path = copy / "manifest.json"
    path.unlink() if content is None else path.write_text(content)
    assert error_line(lambda: Corpus(copy)).startswith(f"{path}: not a readable manifest")


# --- windows --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(1, 9))
def test_windows_are_slices_of_their_shards(lengths: list[int], context: int) -> None:
    ends = np.cumsum(lengths)
    shards = [np.arange(end - n, end, dtype="<u2") for n, end in zip(lengths, ends, strict=True)]
    slices = [
        shard[i : i + context + 1]
        for shard in shards
        for i in range(0, len(shard) - context, context)
    ]
    if not slices:
        assert "one window" in error_line(lambda: Windows(shards, context))
        return
    windows = Windows(shards, context)
    assert len(windows) == len(slices)
    order = np.random.default_rng(0).permutation(len(slices))
    rows = windows[order]
    assert rows.dtype == np.int64
    assert rows.tolist() == [slices[i].tolist() for i in order]


def test_windows_of_a_corpus(embedded: Path) -> None:
    ids = np.fromfile(embedded / "train-00000.bin", dtype="<u2")
    windows = Corpus(embedded).windows("train", 64)
    assert len(windows) == (len(ids) - 1) // 64
    last = len(windows) - 1
    rows = windows[np.array([0, 1, last])]
    assert rows.tolist() == [ids[i * 64 : i * 64 + 65].tolist() for i in (0, 1, last)]
    assert rows[0, -1] == rows[1, 0]  # the last target is the next first input


# --- order ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**63 - 1))
@example(1, 0)
@example(2, 0)
@example(1024, 1)
@example(1025, 1)
def test_shuffled_is_a_bijection(n: int, seed: int) -> None:
    values = shuffled(np.arange(n), n, seed)
    assert np.sort(values).tolist() == list(range(n))
    some = np.arange(0, n, 3)  # each position alone, whoever asks with it
    assert shuffled(some, n, seed).tolist() == values[::3].tolist()


def test_shuffled_mixes_and_depends_on_the_seed() -> None:
    n = 20_000
    orders = [shuffled(np.arange(n), n, seed) for seed in range(4)]
    for i, order in enumerate(orders):
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / n**0.5
        assert (np.diff(order) == 1).mean() < 10 / n
        for other in orders[:i]:
            assert (order == other).mean() < 10 / n


def test_shuffled_at_the_papers_scale() -> None:
    n = 128_000_000_000 // 4 + 17  # more windows than any corpus has, no power of two
    positions = np.concatenate([np.arange(50_000), n - 1 - np.arange(50_000)])
    values = shuffled(positions, n, 5)
    assert len(np.unique(values)) == len(positions)
    assert values.min() >= 0 and n * 0.9 < values.max() < n


@given(st.integers(1, 40), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_no_window_comes_again_before_all_came(n: int, counts: list[int]) -> None:
    said: list[str] = []
    rows = ordered_windows(Windows([np.arange(n + 1)], 1), 7, said.append)
    stream, wrapped = [], []
    for count in counts:
        stream += rows(len(stream), count)[:, 0].tolist()
        wrapped.append(len(said))
    for start in range(0, len(stream), n):
        seen = stream[start : start + n]
        assert len(set(seen)) == len(seen)
    assert wrapped == [(end - 1) // n for end in np.cumsum(counts)]  # told as soon as it happens
    assert all(f"pass {i + 2} over {n} windows" in line for i, line in enumerate(said))
    fresh = ordered_windows(Windows([np.arange(n + 1)], 1), 7, said.append)
    assert fresh(0, len(stream))[:, 0].tolist() == stream  # batches do not matter


def test_each_pass_and_seed_has_its_own_order() -> None:
    windows = Windows([np.arange(101)], 1)
    first = ordered_windows(windows, 3, lambda _: None)(0, 200)[:, 0].tolist()
    other = ordered_windows(windows, 2**63 - 1, lambda _: None)(0, 200)[:, 0].tolist()
    orders = [first[:100], first[100:], other[:100], other[100:]]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_a_vocabulary_beyond_uint16_gets_wider_shards_and_the_same_windows(tmp_path: Path) -> None:
    words = {f"w{i}": i for i in range(70_000)}
    split = Tokenizer(models.WordLevel(words, unk_token="w0"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = tokenizer.TextEncoder(split, 69_999)
    texts = [" ".join(f"w{(i * 7919 + k) % 69_999}" for k in range(30)) for i in range(40)]
    shard = corpora.write_shards(texts, encoder, 4, tmp_path, "00000")
    corpora.write_manifest(tmp_path, encoder, [shard], {"made": "here"})
    wide = Corpus(tmp_path)
    for part in corpora.SPLITS:
        wide.verify(part)
        path = tmp_path / f"{part}-00000.bin"
        assert path.stat().st_size == 4 * shard[part]["tokens"]
        kept = [t for t in texts if is_held_out(t, 4) == (part == "held_out")]
        expected = [i for t in kept for i in [*(int(w[1:]) for w in t.split()), 69_999]]
        windows = wide.windows(part, 16)
        rows = windows[np.arange(len(windows))]
        assert rows[:, :-1].ravel().tolist() == expected[: rows[:, :-1].size]
        assert max(expected) == 69_999


# --- the hub --------------------------------------------------------------------------------------


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
def hub_config(tmp_path_factory: pytest.TempPathFactory) -> dict:
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


@pytest.fixture(scope="module")
def from_files(hub_config: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    import datasets  # noqa: F401  once here, so that no forked worker needs to
    import torch  # noqa: F401  which datasets imports when it streams

    corpora.build_from_hub(hub_config, folder / "c4", folder / "c4.work", workers=1)
    assert [path.name for path in folder.iterdir()] == ["c4"]  # the working folder is gone
    return folder / "c4"


def test_hub_corpus_holds_the_files_in_order(hub_config: dict, from_files: Path) -> None:
    manifest = json.loads((from_files / "manifest.json").read_text())
    encoder = tokenizer.load_encoder(Path(hub_config["tokenizer"]["hub"]["repository"]))
    shards = manifest["splits"]["train"]["shards"]
    assert (
        sum(shard["tokens"] for shard in shards[:-1]) < 25_000 <= sum(s["tokens"] for s in shards)
    )
    assert len(shards) == 3  # not the fourth file: there are tokens enough
    for split in corpora.SPLITS:
        texts = [text for file in range(3) for text in hub_text("a", file)]
        kept = [text for text in texts if is_held_out(text, 5) == (split == "held_out")]
        assert documents(from_files, split) == [ids.tolist() for ids in encoder.encode(kept)]
        Corpus(from_files).verify(split)


def test_hub_corpus_does_not_depend_on_workers(
    hub_config: dict, from_files: Path, tmp_path: Path
) -> None:
    corpora.build_from_hub(hub_config, tmp_path / "c4", tmp_path / "c4.work", workers=4)
    assert contents(tmp_path / "c4") == contents(from_files)


KILLED = """
import json, os, signal, sys
from itertools import islice
from pathlib import Path
from overtrain.data import corpora

write, corpora.BATCH = corpora.write_shards, 4  # documents: so that some are written when it dies

def texts_until_killed(texts):
    yield from islice(texts, 30)
    os.killpg(0, signal.SIGKILL)

def write_shards(texts, *rest):
    return write(texts_until_killed(texts) if rest[-1] == "00001" else texts, *rest)

corpora.write_shards = write_shards
config, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
corpora.build_from_hub(config, folder / "c4", folder / "c4.work", workers=1)
"""


def test_killed_build_goes_on_with_the_next_file(
    hub_config: dict, from_files: Path, tmp_path: Path
) -> None:
    with serve(tmp_path, {}) as hub:
        killed = run_on_hub(hub, tmp_path / "home", KILLED, json.dumps(hub_config), str(tmp_path))
    assert killed.returncode == -9, killed.stderr
    assert hub.requests == []  # a local folder needs no network
    work = tmp_path / "c4.work"
    assert not (tmp_path / "c4").exists()
    assert [path.name for path in work.glob("0*.json")] == ["00000.json"]
    assert (work / "train-00001.bin").stat().st_size > 0  # half of a shard
    finished = (work / "train-00000.bin").stat()
    corpora.build_from_hub(hub_config, tmp_path / "c4", work, workers=1)
    assert contents(tmp_path / "c4") == contents(from_files)
    kept = (tmp_path / "c4/train-00000.bin").stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (finished.st_ino, finished.st_mtime_ns)
    assert not work.exists()


def test_work_of_another_configuration_is_refused(hub_config: dict, tmp_path: Path) -> None:
    work = tmp_path / "c4.work"
    too_much = hub_config | {"train_tokens": 10**6}
    line = error_line(lambda: corpora.build_from_hub(too_much, tmp_path / "c4", work, 1))
    assert "4 files hold" in line and "asks for 1,000,000" in line
    other = hub_config | {"held_out": 6}
    line = error_line(lambda: corpora.build_from_hub(other, tmp_path / "c4", work, 1))
    assert line.startswith(f"{work}: holds shards of another configuration")


def test_missing_column_is_named(hub_config: dict, tmp_path: Path) -> None:
    write_files(tmp_path / "source", "a", 1, column="content")
    source = hub_config["source"] | {"dataset": str(tmp_path / "source"), "file_count": 1}
    config = hub_config | {"source": source}
    line = error_line(lambda: corpora.build_from_hub(config, tmp_path / "c4", tmp_path / "work", 1))
    assert line.startswith(f"{tmp_path / 'source'}: no column 'text'; it has ['content', ")


@pytest.mark.parametrize("damage", ["missing", "truncated", "no json"])
def test_unreadable_source_file_is_named(hub_config: dict, tmp_path: Path, damage: str) -> None:
    write_files(tmp_path / "source", "a", 1)
    path = tmp_path / "source" / FILES.format(0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else gzip.compress(b"a"))
    if damage == "missing":
        path.unlink()
    source = hub_config["source"] | {"dataset": str(tmp_path / "source"), "file_count": 1}
    config = hub_config | {"source": source}
    line = error_line(lambda: corpora.build_from_hub(config, tmp_path / "c4", tmp_path / "work", 1))
    assert FILES.format(0) in line


ON_HUB = """
import json, sys
from pathlib import Path
from overtrain.data import corpora

config, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
corpora.build_from_hub(config, folder / "c4", folder / "c4.work", workers=2)
for number, (part, change) in enumerate([
    ("source", {"revision": "nope"}),
    ("source", {"dataset": "allenai/c5"}),
    ("hub", {"revision": "nope"}),
    ("hub", {"repository": "allenai/OLMo"}),
]):
    wrong = json.loads(sys.argv[1])
    (wrong["source"] if part == "source" else wrong["tokenizer"]["hub"]).update(change)
    try:
        corpora.build_from_hub(wrong, folder / "wrong", folder / f"{number}.work", workers=1)
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def on_hub(hub_config: dict, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """A corpus built over HTTP at a commit that main has left behind; errors of wrong names."""
    folder = tmp_path_factory.mktemp("on_hub")
    for commit in (OLD, NEW):
        write_files(folder / "root/datasets/allenai/c4" / commit, commit[0])
        model = folder / "root/models/allenai/OLMo-1B-hf" / commit
        model.mkdir(parents=True)
        tokenizer.train_bpe(hub_text("a", 0), 300 if commit == OLD else 280).save(model)
    hub = hub_config["tokenizer"]["hub"] | {"repository": "allenai/OLMo-1B-hf", "revision": OLD}
    source = hub_config["source"] | {"dataset": "allenai/c4", "revision": OLD}
    config = hub_config | {"source": source, "tokenizer": {"hub": hub}}
    with serve(folder / "root", {"main": NEW}) as server:
        done = run_on_hub(server, folder / "home", ON_HUB, json.dumps(config), str(folder))
    assert done.returncode == 0, done.stderr
    return folder / "c4", [json.loads(line) for line in done.stdout.splitlines()]


def test_hub_repository_at_its_revision(on_hub: tuple[Path, list], from_files: Path) -> None:
    corpus, _ = on_hub
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert manifest["source"]["dataset"] == "allenai/c4"
    assert manifest["source"]["revision"] == OLD
    ours, theirs = contents(corpus), contents(from_files)
    assert ours.pop("manifest.json") != theirs.pop("manifest.json")
    assert ours == theirs


def test_manifest_has_the_tokenizers_commit(on_hub: tuple[Path, list]) -> None:
    manifest = json.loads((on_hub[0] / "manifest.json").read_text())
    assert OLD in json.dumps(manifest["source"].get("tokenizer"))


@pytest.mark.parametrize(
    ("case", "named"),
    [
        (0, ["allenai/c4", "nope"]),
        (1, ["allenai/c5"]),
        (2, ["allenai/OLMo-1B-hf", "nope"]),
        (3, ["allenai/OLMo"]),
    ],
)
def test_wrong_repository_or_revision_is_one_line(
    on_hub: tuple[Path, list], case: int, named: list[str]
) -> None:
    kind, message = on_hub[1][case]
    assert all(name in message for name in named)
    assert kind == "PipelineError" and "\n" not in message

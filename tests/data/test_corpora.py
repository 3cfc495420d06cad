"""Corpora: the same at every build, split by content, checked by hash, read without repeats."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
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
    corpora.build_from_packages(DOCSTRINGS, folder, workers=1)
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
    corpora.build_from_packages(DOCSTRINGS, tmp_path / "pydoc", workers=2)
    assert contents(tmp_path / "pydoc") == contents(embedded)
    assert [path.name for path in tmp_path.iterdir()] == ["pydoc"]


def test_characters(tmp_path: Path) -> None:
    config = DOCSTRINGS | {"tokenizer": {"kind": "characters"}}
    manifest = corpora.build_from_packages(config, tmp_path / "pydoc", workers=1)
    texts = [document.text for document in extract(["fsspec"])]
    kept = "".join(text + "\n" for text in texts if not is_held_out(text, 8))
    ids = np.fromfile(tmp_path / "pydoc/train-00000.bin", dtype="<u2")
    assert "".join(tokenizer.SYMBOLS[i] for i in ids) == kept
    assert manifest["splits"]["train"]["tokens"] == len(kept)


def test_documented_functions_as_a_corpus(tmp_path: Path) -> None:
    """Each document is a function that begins with a few words of its docstring."""
    config = DOCSTRINGS | {"kind": "documented_functions"}
    corpora.build_from_packages(config, tmp_path / "code", workers=1)
    decode = tokenizer.load_encoder(tmp_path / "code").tokenizer.decode
    texts = [decode(ids) for split in corpora.SPLITS for ids in documents(tmp_path / "code", split)]
    assert sorted(texts) == sorted(d.text for d in extract(["fsspec"], "documented_functions"))
    for text in texts:
        signature, said, rest = text.split('"""', 2)
        assert signature.startswith("def ") and signature.endswith("):\n    ")
        assert said.endswith(".") and 0 < len(said) - 1 <= 18 and rest.strip()
    manifest = json.loads((tmp_path / "code/manifest.json").read_text())
    assert manifest["source"] == {"documented_functions": {"fsspec": version("fsspec")}}


def test_empty_split_is_named(tmp_path: Path) -> None:
    config = DOCSTRINGS | {"held_out": 10**12}
    line = error_line(lambda: corpora.build_from_packages(config, tmp_path / "pydoc", 1))
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
@pytest.mark.parametrize("damage", ["truncated", "longer", "missing"])
def test_damaged_shard_is_named(copy: Path, split: str, damage: str) -> None:
    path = copy / f"{split}-00000.bin"
    content = path.read_bytes()
    Corpus(copy).verify(split)
    path.write_bytes({"truncated": content[:-2], "longer": content + b"ab"}.get(damage, content))
    if damage == "missing":
        path.unlink()
    assert error_line(lambda: Corpus(copy).verify(split)).startswith(f"{path}: ")
    for other in set(corpora.SPLITS) - {split}:
        Corpus(copy).verify(other)


def test_a_start_reads_no_shard(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(copy)
    for name in ("open", "read_bytes"):
        monkeypatch.setattr(Path, name, lambda path, *_: pytest.fail(f"{path} is read"))
    for split in corpora.SPLITS:
        corpus.verify(split)


def test_what_the_disk_does_not_hold_is_found_when_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def lose(file: int) -> None:
        """One bit on the way to the disk."""
        path = Path(f"/proc/self/fd/{file}").resolve()
        sync(file)
        if path.name.startswith("held_out"):
            content = bytearray(path.read_bytes())
            content[3] ^= 1
            path.write_bytes(content)

    monkeypatch.setattr(os, "fsync", lose)
    line = error_line(lambda: corpora.build_from_packages(DOCSTRINGS, tmp_path / "pydoc", 1))
    assert "held_out-00000.bin: the disk does not hold what was written to it (SHA-256 " in line
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_says_that_it_was_read_back(embedded: Path) -> None:
    manifest = json.loads((embedded / "manifest.json").read_text())
    tokens = sum(manifest["splits"][split]["tokens"] for split in corpora.SPLITS)
    verified = json.loads((embedded / "verified.json").read_text())
    assert verified == {"bytes": 2 * tokens, "sha256": manifest["sha256"]}


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

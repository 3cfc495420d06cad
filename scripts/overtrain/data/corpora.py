"""Pre-training text as token shards: built from docstrings or the hub, read by memory map.

A corpus is a folder: `train-*.bin` and `held_out-*.bin` (little-endian ids, documents separated by
the end-of-text id; uint16, or uint32 where the manifest's vocabulary has more than 65,536 tokens),
the tokenizer, and `manifest.json` with every shard's hash. A document is held out by its own hash,
so that equal documents are always on the same side and the two splits are disjoint by content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.data import docstrings, tokenizer
from overtrain.data.tokenizer import TextEncoder, token_type
from overtrain.data.workers import pool as workers_pool
from overtrain.hub import client
from overtrain.records.provenance import sha256, whole_folder, write_json

MANIFEST = "manifest.json"
SPLITS = ("train", "held_out")
BATCH = 1024  # documents encoded at a time


def is_held_out(text: str, one_in: int) -> bool:
    """Whether a document belongs to the held-out split: one in `one_in`, chosen by its content."""
    return int(hashlib.sha256(text.encode()).hexdigest()[-12:], 16) % one_in == 0


# --- building -------------------------------------------------------------------------------------


def write_shards(
    texts: Iterable[str], encoder: TextEncoder, one_in: int, folder: Path, name: str
) -> dict[str, dict]:
    """Encode `texts` into `{split}-{name}.bin`; per split: file, tokens, documents, sha256."""
    shards: dict[str, dict[str, Any]] = {
        split: {
            "file": f"{split}-{name}.bin",
            "tokens": 0,
            "documents": 0,
            "sha256": hashlib.sha256(),
        }
        for split in SPLITS
    }
    files = {split: (folder / shards[split]["file"]).open("wb") for split in SPLITS}
    end = np.array([encoder.end_of_text], dtype=encoder.type).tobytes()
    try:
        for batch in batched(texts, BATCH):
            for text, ids in zip(batch, encoder.encode(batch), strict=True):
                split = "held_out" if is_held_out(text, one_in) else "train"
                content = ids.tobytes() + end
                files[split].write(content)
                shard = shards[split]
                shard["sha256"].update(content)
                shard["tokens"] += len(ids) + 1
                shard["documents"] += 1
    finally:
        for file in files.values():
            file.close()
    return {
        split: shard | {"sha256": shard["sha256"].hexdigest()} for split, shard in shards.items()
    }


def batched(items: Iterable, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def write_manifest(
    folder: Path, encoder: TextEncoder, shards: list[dict[str, dict]], source: dict
) -> dict:
    """Check the splits and write the tokenizer and the manifest that describes them."""
    splits = {}
    for split in SPLITS:
        parts = [shard[split] for shard in shards if shard[split]["tokens"]]
        if not parts:
            raise PipelineError(
                f"{folder.name}: the {split} split is empty; check held_out and the source"
            )
        splits[split] = {
            "documents": sum(part["documents"] for part in parts),
            "shards": parts,
            "tokens": sum(part["tokens"] for part in parts),
        }
    encoder.save(folder)
    hashes = "".join(part["sha256"] for split in SPLITS for part in splits[split]["shards"])
    manifest = {
        "end_of_text": encoder.end_of_text,
        "sha256": hashlib.sha256(hashes.encode()).hexdigest(),
        "source": source,
        "splits": splits,
        "vocabulary": encoder.vocabulary,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def build_from_docstrings(config: dict, folder: Path, workers: int) -> dict:
    """Build the embedded corpus: docstrings of `config["packages"]`. Returns the manifest."""
    documents = docstrings.extract(config["packages"], workers=workers)
    texts = [document.text for document in documents]
    if config["tokenizer"]["kind"] == "characters":
        encoder = tokenizer.characters()
    else:
        training = (text for text in texts if not is_held_out(text, config["held_out"]))
        encoder = tokenizer.train_bpe(training, config["tokenizer"]["vocabulary"])
    from importlib.metadata import packages_distributions, version

    distributions = packages_distributions()
    source = {package: version(distributions[package][0]) for package in config["packages"]}
    with whole_folder(folder) as temporary:
        shards = write_shards(texts, encoder, config["held_out"], temporary, "00000")
        return write_manifest(temporary, encoder, [shards], {"docstrings": source})


def build_from_hub(config: dict, folder: Path, work: Path, workers: int) -> dict:
    """Stream, tokenise and shard a hub data set, one source file a shard. Returns the manifest.

    Finished shards wait in `work`, outside the outputs that Snakemake clears, so an interrupted
    build goes on with the next file. Only `config["train_tokens"]` tokens are kept: files are taken
    in order.
    """
    source, vocabulary = config["source"], config["tokenizer"]["hub"]
    encoder = tokenizer.from_hub(**vocabulary)
    work.mkdir(parents=True, exist_ok=True)
    origin = {"dataset": source["dataset"], "revision": source["revision"]}
    origin["tokenizer"] = vocabulary
    check_same_work(work, {"config": config, "origin": origin})
    encoder.save(work)
    shard = partial(build_shard, config, work)
    shards: list[dict] = []
    total = 0
    with (
        workers_pool(workers) as pool,
        tqdm(total=config["train_tokens"], unit="token", unit_scale=True, desc="tokenise") as bar,
    ):
        for batch in batched(range(source["file_count"]), workers):
            for found in pool.map(shard, batch):
                if total >= config["train_tokens"]:
                    break  # the batch's last files are not needed
                shards.append(found)
                total += found["train"]["tokens"]
                bar.update(found["train"]["tokens"])
            if total >= config["train_tokens"]:
                break
        else:
            raise PipelineError(
                f"{source['dataset']}: its {source['file_count']} files hold {total:,} training "
                f"tokens; train_tokens asks for {config['train_tokens']:,}"
            )
    with whole_folder(folder) as temporary:
        for found in shards:
            for split in SPLITS:
                os.link(work / found[split]["file"], temporary / found[split]["file"])
        manifest = write_manifest(temporary, encoder, shards, origin)
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    return manifest


def check_same_work(work: Path, identity: dict) -> None:
    """Refuse to mix shards of two configurations in one working folder."""
    path = work / "identity.json"
    content = json.dumps(identity, sort_keys=True)
    if path.exists() and path.read_text() != content:
        raise PipelineError(
            f"{work}: holds shards of another configuration; remove it to start again"
        )
    path.write_text(content)


def build_shard(config: dict, work: Path, index: int) -> dict[str, dict]:
    """Tokenise source file `index`, unless a former attempt finished it."""
    done = work / f"{index:05d}.json"
    if done.exists():
        return json.loads(done.read_text())
    from datasets import load_dataset

    source = config["source"]
    file, column = source["files"].format(index), source["text_column"]
    encoder = tokenizer.load_encoder(work)
    with client.one_line(f"{source['dataset']}, {file}"):
        rows = load_dataset(
            source["dataset"],
            data_files=file,
            revision=source["revision"],
            split="train",
            streaming=True,
        )
        if rows.column_names and column not in rows.column_names:
            raise PipelineError(
                f"{source['dataset']}: no column {column!r}; it has {rows.column_names}"
            )
        texts = (row[column] for row in rows)
        shard = write_shards(texts, encoder, config["held_out"], work, f"{index:05d}")
    write_json(done, shard)
    return shard


# --- reading --------------------------------------------------------------------------------------


class Corpus:
    """A corpus folder, read by memory map."""

    def __init__(self, folder: Path):
        self.folder = folder
        path = folder / MANIFEST
        try:
            self.manifest = json.loads(path.read_text())
            self.type = token_type(self.manifest["vocabulary"])
        except (OSError, json.JSONDecodeError, KeyError) as error:
            raise PipelineError(f"{path}: not a readable manifest ({error})") from error

    def verify(self, split: str) -> None:
        """Compare the shards of `split` with the manifest; PipelineError at one that differs."""
        for shard in self.manifest["splits"][split]["shards"]:
            path = self.folder / shard["file"]
            if not path.exists():
                raise PipelineError(f"{path}: missing; the manifest lists it")
            size = self.type.itemsize * shard["tokens"]
            if path.stat().st_size != size or sha256(path) != shard["sha256"]:
                raise PipelineError(
                    f"{path}: differs from its hash in {MANIFEST}; build the corpus again"
                )

    def windows(self, split: str, context: int) -> Windows:
        shards = self.manifest["splits"][split]["shards"]
        arrays = [np.memmap(self.folder / s["file"], dtype=self.type, mode="r") for s in shards]
        return Windows(arrays, context)


class Windows:
    """Consecutive windows of `context` inputs and their targets: rows of context + 1 tokens.

    Neighbours share one token (the last target is the next first input); the end of a shard that
    fills no window is left out.
    """

    def __init__(self, arrays: list[np.ndarray], context: int):
        self.arrays, self.context = arrays, context
        counts = [max(0, (len(array) - 1) // context) for array in arrays]
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        if not len(self):
            raise PipelineError(f"no shard is longer than one window of {context} tokens")

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Rows (n, context + 1), int64, of window numbers (n,)."""
        shard = np.searchsorted(self.starts, indices, side="right") - 1
        rows = np.empty((len(indices), self.context + 1), dtype=np.int64)
        offsets = np.arange(self.context + 1)
        for s in np.unique(shard):
            chosen = shard == s
            first = (indices[chosen] - self.starts[s]) * self.context
            rows[chosen] = self.arrays[s][first[:, None] + offsets]
        return rows


def shuffled(positions: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Where each position in 0 .. n - 1 comes to stand in a random permutation of n.

    A four-round Feistel network over the next even power of two, walked until the value falls below
    n: a bijection without a table, which for 128 B tokens would take a gigabyte per process.
    """
    bits = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << bits) - 1)
    keys = np.random.default_rng(seed).integers(0, 2**63, size=4, dtype=np.uint64)

    def scramble(x: np.ndarray) -> np.ndarray:
        left, right = x >> np.uint64(bits), x & mask
        for key in keys:
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        return (left << np.uint64(bits)) | right

    values = scramble(positions.astype(np.uint64))
    while (outside := values >= n).any():
        values[outside] = scramble(values[outside])
    return values.astype(np.int64)


def ordered_windows(windows: Windows, seed: int, say: Callable[[str], None]) -> Callable:
    """A function (first, count) -> rows for positions of an endless stream over shuffled windows.

    Every window comes once before any comes again; each pass has an order of its own, and `say` is
    told when one begins after the first. Smaller budgets of one seed are prefixes of larger ones.
    """
    told = {0}

    def rows(first: int, count: int) -> np.ndarray:
        positions = np.arange(first, first + count)
        passes = positions // len(windows)
        indices = np.empty(count, dtype=np.int64)
        for number in np.unique(passes):
            if number not in told:
                told.add(int(number))
                say(f"corpus wraps: pass {number + 1} over {len(windows):,} windows begins")
            chosen = passes == number
            order = (seed + int(number)) % 2**63
            indices[chosen] = shuffled(positions[chosen] % len(windows), len(windows), order)
        return windows[indices]

    return rows

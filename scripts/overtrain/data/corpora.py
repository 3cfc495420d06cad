"""Pre-training text as token shards: written, checked once on the disk, read by memory map.

A corpus is a folder: `train-*.bin` and `held_out-*.bin` (little-endian ids, documents separated by
the end-of-text id; uint16, or uint32 where the manifest's vocabulary has more than 65,536 tokens),
the tokenizer, and `manifest.json` with every shard's hash. A document is held out by its own hash,
so that equal documents are always on the same side and the two splits are disjoint by content.

Every shard is read back from the disk when it has been written (`verified.json` says so). Those who
read a corpus look only whether its files are there and as long as they should be: hashing the 256
GB of the paper's takes minutes, and a pre-training on many GPUs would wait for it at every start.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from overtrain import PipelineError
from overtrain.data import docstrings, tokenizer
from overtrain.data.tokenizer import TextEncoder, token_type
from overtrain.records.provenance import whole_folder, write_json

MANIFEST, VERIFIED = "manifest.json", "verified.json"
SPLITS = ("train", "held_out")
BATCH = 1024  # documents encoded at a time


def is_held_out(text: str, one_in: int) -> bool:
    """Whether a document belongs to the held-out split: one in `one_in`, chosen by its content."""
    return int(hashlib.sha256(text.encode()).hexdigest()[-12:], 16) % one_in == 0


# --- building -------------------------------------------------------------------------------------


def write_shards(
    texts: Iterable[str], encoder: TextEncoder, one_in: int, folder: Path, name: str
) -> dict[str, dict]:
    """Encode `texts` into `{split}-{name}.bin`; per split: file, tokens, documents, sha256.

    PipelineError if the disk does not hold what was written.
    """
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
    for shard in shards.values():
        shard["sha256"] = shard["sha256"].hexdigest()
        read_back(folder / shard["file"], shard["sha256"])
    return shards


def read_back(path: Path, digest: str) -> None:
    """Compare what the disk holds of a file with the hash of what was written."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # forget it, or memory would answer for the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise PipelineError(
            f"{path}: the disk does not hold what was written to it (SHA-256 {found}, not {digest})"
        )


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
    """Write the tokenizer, and the manifest that describes verified shards."""
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
    tokens = sum(splits[split]["tokens"] for split in SPLITS)
    verified = {"bytes": tokens * encoder.type.itemsize, "sha256": manifest["sha256"]}
    write_json(folder / VERIFIED, verified)
    return manifest


def build_from_packages(config: dict, folder: Path, workers: int) -> dict:
    """Build an embedded corpus: text of `config["packages"]`, of its kind. Returns the manifest."""
    documents = docstrings.extract(config["packages"], config["kind"], workers)
    texts = [document.text for document in documents]
    if config["tokenizer"]["kind"] == "characters":
        encoder = tokenizer.characters()
    else:
        training = (text for text in texts if not is_held_out(text, config["held_out"]))
        encoder = tokenizer.train_bpe(training, config["tokenizer"]["vocabulary"])
    from importlib.metadata import packages_distributions, version

    distributions = packages_distributions()
    source = {
        package: version(distributions[package.partition(".")[0]][0])
        for package in config["packages"]
    }
    with whole_folder(folder) as temporary:
        shards = write_shards(texts, encoder, config["held_out"], temporary, "00000")
        return write_manifest(temporary, encoder, [shards], {config["kind"]: source})


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
        """PipelineError at a shard of `split` that is missing or not as long as it was written."""
        for shard in self.manifest["splits"][split]["shards"]:
            path = self.folder / shard["file"]
            if not path.exists():
                raise PipelineError(f"{path}: missing; the manifest lists it")
            size, found = self.type.itemsize * shard["tokens"], path.stat().st_size
            if found != size:
                raise PipelineError(
                    f"{path}: has {found:,} bytes, {size:,} by {MANIFEST}; build the corpus again"
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

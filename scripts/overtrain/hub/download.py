"""One revision of a repository as a checkpoint directory (safetensors, manifest); named files.

Of a checkpoint only the configuration, the tokenizer and the weights are taken; no code of the
repository is. The manifest says which commit the revision named and the SHA-256 of every file. A
repository is the hub's, or a local folder with a folder for each revision, whose files are copied:
so a model's checkpoints that were trained here can stand in for a released model's.

huggingface_hub's own downloads give a file a new temporary name in each process, so one that was
killed starts again, and compare no hash (`tests/hub/test_download.py` shows both); so here a file
grows under a name that stays, and is compared with what the hub says of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from overtrain import PipelineError
from overtrain.config.hub import is_local
from overtrain.hub import client
from overtrain.records.provenance import sha256, whole_folder, write_json

MANIFEST = "manifest.json"
ARCHITECTURES = ("llama", "olmo", "olmo2")  # model_type of config.json
DESCRIPTION = (
    "chat_template*",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer*",
)
# Either is a tokenizer: all of it, or SentencePiece's model and the class that says how it is read.
TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model", "tokenizer_config.json"})
SAMPLE = "A sample: 12.5 % of naïve text,  on two\nlines."
SAFETENSORS, PICKLED = "model*.safetensors", "pytorch_model*.bin"


@dataclass(frozen=True)
class Source:
    """Where the files of one revision come from."""

    commit: str | None  # a local folder has none
    sizes: dict[str, int]  # bytes of each file at the top level
    fetch: Callable[[str, Path], str]  # makes a file whole at a path; returns its SHA-256


def download_checkpoint(
    repository: str,
    revision: str,
    folder: Path,
    work: Path,
    pinned: str | None = None,
    architectures: Iterable[str] | None = ARCHITECTURES,
) -> dict:
    """Fill `folder` with `revision` of `repository`. Returns the manifest.

    work: where half a download waits, outside the outputs that Snakemake clears, so that the next
    attempt goes on with it. pinned: the commit to take, whatever `revision` names by now;
    architectures: the model_types that will do, None for any. PipelineError if the revision does
    not exist, holds no such model or does not fit on the disk, or if a file is not what the hub
    says.
    """
    what = f"{repository} at {revision}"
    with client.one_line(what):
        source = (
            of_folder(repository, revision)
            if is_local(repository)
            else of_hub(repository, pinned or revision, what)
        )
        described, weights, indices = wanted(source.sizes, what)
        place = work / (source.commit or "copied")
        place.mkdir(parents=True, exist_ok=True)
        check_space(place, source.sizes, (*described, *indices, *weights), what)
        digests = {name: source.fetch(name, place / name) for name in (*described, *indices)}
        if architectures is not None:
            check_architecture(place / "config.json", architectures, what)
        check_tokenizer(place, what)
        for index in indices:
            check_index(place / index, weights, f"{what}, {index}")
        digests |= {name: source.fetch(name, place / name) for name in weights}
    pickled = [name for name in weights if fnmatch(name, PICKLED)]
    with whole_folder(folder) as temporary:
        for name in digests:
            if not fnmatch(name, f"{PICKLED}*"):
                link(place / name, temporary / name)
        if pickled:
            convert({name: place / name for name in pickled}, temporary, what)
        hashes = {
            path.name: digests.get(path.name) or sha256(path)
            for path in sorted(temporary.iterdir())
        }
        manifest = {
            "commit": source.commit,
            "converted_from": {name: digests[name] for name in pickled},
            "files": hashes,
            "repository": repository,
            "revision": revision,
            "sha256": hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
        }
        write_json(temporary / MANIFEST, manifest)
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def of_folder(repository: str, revision: str) -> Source:
    """A revision of a local folder."""
    root = Path(repository)
    if not root.is_dir():
        raise PipelineError(f"{repository}: no such folder")
    known = sorted(path.name for path in root.iterdir() if path.is_dir())
    if revision not in known:
        missing = client.no_revision(revision, known)
        raise PipelineError(f"{repository} at {revision}: {missing}")
    return copied({path.name: path for path in (root / revision).iterdir() if path.is_file()})


def of_hub(repository: str, revision: str, what: str) -> Source:
    """A revision of a repository of the hub."""
    info = client.api().repo_info(
        repository, revision=revision, files_metadata=True, timeout=client.TIMEOUT
    )
    files = {file.rfilename: file for file in info.siblings if "/" not in file.rfilename}
    return fetched(files, what, repository=repository, revision=info.sha)


def data_files(
    repository: str, revision: str, names: list[str], what: str, kind: str = "dataset"
) -> Source:
    """Named files of a repository of the hub, wherever in it they are, or of a local folder.

    kind: of the repository: dataset or model.
    """
    place: dict[str, Any] = {"repo_type": kind, "revision": revision}
    local = is_local(repository)
    if local:
        paths = {name: Path(repository, name) for name in names}
        found: dict[str, Any] = {name: path for name, path in paths.items() if path.is_file()}
    else:
        entries = client.api().get_paths_info(repository, names, **place)
        found = {entry.path: entry for entry in entries}
    if missing := [name for name in names if name not in found]:
        raise PipelineError(f"{what}: it has no file {missing[0]} ({len(missing)} missing)")
    return copied(found) if local else fetched(found, what, repository=repository, **place)


def copied(files: dict[str, Path]) -> Source:
    """Local files."""

    def fetch(name: str, path: Path) -> str:
        return sha256(shutil.copyfile(files[name], path))

    return Source(None, {name: path.stat().st_size for name, path in files.items()}, fetch)


def fetched(files: dict[str, Any], what: str, repository: str, **place: str) -> Source:
    """Files as the hub describes them (size, blob_id, lfs); place: what `hf_hub_url` takes."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers
    from huggingface_hub.utils.sha import git_hash

    headers = build_hf_headers()

    def fetch(name: str, path: Path) -> str:
        """From where a former attempt stopped; what is not what the hub says is removed."""
        file = files[name]
        with path.open("ab") as stream:
            if stream.tell() < file.size:
                url = hf_hub_url(repository, name, **place)
                there = {"resume_size": stream.tell(), "displayed_filename": name}
                http_get(url, stream, headers=headers, **there)
        digest = sha256(path)
        # The hub tells the SHA-256 of files in LFS, and of others what git calls them.
        found, expected, kind = (
            (digest, file.lfs.sha256, "SHA-256")
            if file.lfs
            else (git_hash(path.read_bytes()), file.blob_id, "git hash")
        )
        if found != expected:
            size = path.stat().st_size
            path.unlink()
            raise PipelineError(
                f"{what}, {name}: {size:,} bytes came, of the {kind} {found}; the hub says "
                f"{file.size:,}, {expected}"
            )
        return digest

    return Source(place["revision"], {name: file.size for name, file in files.items()}, fetch)


def wanted(names: Iterable[str], what: str) -> tuple[list[str], list[str], list[str]]:
    """Those files of a revision that are a checkpoint: its description, weights and their index."""
    names = sorted(names)
    described = [n for n in names if any(fnmatch(n, pattern) for pattern in DESCRIPTION)]
    kind = next((k for k in (SAFETENSORS, PICKLED) if any(fnmatch(n, k) for n in names)), None)
    tokenizer = any(files <= {*described} for files in TOKENIZERS)
    if "config.json" not in described or not tokenizer or kind is None:
        choices = " or ".join(" with ".join(sorted(files)) for files in TOKENIZERS)
        raise PipelineError(
            f"{what}: needs config.json, {choices}, and {SAFETENSORS} or {PICKLED}; "
            f"it has {', '.join(names)}"
        )
    weights = [n for n in names if fnmatch(n, kind)]
    return described, weights, [n for n in names if fnmatch(n, f"{kind}.index.json")]


def check_space(
    work: Path, sizes: dict[str, int], names: Iterable[str], what: str, twice: str = PICKLED
) -> None:
    """PipelineError unless the disk has room for what is not there yet, before any of it is asked.

    twice: a pattern of the files that are there twice for a while, as they come and as what is made
    of them: pickled weights are made safetensors.
    """
    needed = 0
    for name in names:
        there = (work / name).stat().st_size if (work / name).exists() else 0
        needed += sizes[name] * (2 if fnmatch(name, twice) else 1) - there
    free = shutil.disk_usage(work).free
    if needed > free:
        raise PipelineError(
            f"{what}: needs {needed / 1e9:.1f} GB more on the disk of {work}, which has "
            f"{free / 1e9:.1f} GB free"
        )


def link(path: Path, other: Path) -> None:
    """A second name for a file; a copy where that cannot be, as on another file system."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def check_architecture(path: Path, known: Iterable[str], what: str) -> None:
    """transformers must know the model without code of the repository."""
    try:
        found = json.loads(path.read_text()).get("model_type")
    except (ValueError, AttributeError) as error:
        raise PipelineError(f"{what}, config.json: not readable as JSON ({error})") from error
    if found not in known:
        raise PipelineError(
            f"{what}: model_type of config.json is {found!r}; it must be one of {', '.join(known)}"
        )


def check_tokenizer(folder: Path, what: str) -> None:
    """transformers must load it and, of a tokenizer.model alone, make the tokens that it says.

    It converts that file as the class in tokenizer_config.json asks; a class that it does not know
    gives other tokens without a word.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise what they like
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{what}: transformers cannot load its tokenizer ({reason[:200]})"
        ) from error
    if (folder / "tokenizer.json").exists():
        return
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    if tokenizer(SAMPLE, add_special_tokens=False).input_ids != model.encode(SAMPLE):
        named = json.loads((folder / "tokenizer_config.json").read_text()).get("tokenizer_class")
        raise PipelineError(
            f"{what}: transformers reads tokenizer.model as other tokens than it says; "
            f"tokenizer_class of tokenizer_config.json is {named!r}"
        )


def check_index(path: Path, weights: list[str], where: str) -> None:
    """Every shard that an index names must be there."""
    try:
        named = set(json.loads(path.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise PipelineError(f"{where}: not a readable index ({error!r})") from error
    if missing := sorted(named - set(weights)):
        raise PipelineError(
            f"{where}: names {', '.join(missing)}, which the revision does not have"
        )


def convert(shards: dict[str, Path], folder: Path, what: str) -> None:
    """Write pickled weights as safetensors, a file for each, with an index if they are several.

    Only tensors are unpickled (`weights_only`); anything else in a file is an error.
    """
    import torch
    from safetensors.torch import save_file

    weight_map: dict[str, str] = {}
    size = 0
    for shard, path in shards.items():
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise PipelineError(
                f"{what}, {shard}: not a file of weights alone ({str(error).split('.')[0]})"
            ) from error
        for key, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor):
                raise PipelineError(
                    f"{what}, {shard}: {key} is a {type(tensor).__name__}, not a tensor"
                )
        name = shard.replace("pytorch_model", "model").replace(".bin", ".safetensors")
        # Copies, as safetensors keeps no tensors that share memory (tied embeddings, views).
        own = {k: t.clone(memory_format=torch.contiguous_format) for k, t in tensors.items()}
        save_file(own, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(own, name)
        size += sum(tensor.nbytes for tensor in own.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)

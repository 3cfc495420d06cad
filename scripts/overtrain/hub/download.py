"""One revision of a hub repository as a checkpoint directory: safetensors and a manifest.

Only the configuration, the tokenizer and the weights are taken; no code of the repository is. The
manifest says which commit the revision named and the SHA-256 of every file.

huggingface_hub's own downloads forget a half-fetched file when their process ends; here it waits,
under the hash that the hub tells, and the next attempt asks for the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from overtrain import PipelineError
from overtrain.hub import client
from overtrain.records.provenance import sha256, whole_folder, write_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

MANIFEST = "manifest.json"
ARCHITECTURES = ("llama", "olmo", "olmo2")  # model_type of config.json
DESCRIPTION = (
    "chat_template*",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer*",
)
SAFETENSORS, PICKLED = "model*.safetensors", "pytorch_model*.bin"
BLOCK = 2**20  # bytes hashed at a time


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
    with client.opened(repository) as (api, name), client.one_line(what):
        commit, files = files_of(api, name, pinned or revision, what)
        described, weights, indices = wanted(files, what)
        check_space(work, [files[n] for n in (*described, *weights, *indices)], weights, what)
        found = {n: fetch(api, name, commit, files[n], work, what) for n in described}
        if architectures is not None:
            check_architecture(found["config.json"][0], architectures, what)
        found |= {n: fetch(api, name, commit, files[n], work, what) for n in indices}
        for index in indices:
            check_index(found[index][0], weights, f"{what}, {index}")
        found |= {n: fetch(api, name, commit, files[n], work, what) for n in weights}
    pickled = [n for n in weights if fnmatch(n, PICKLED)]
    with whole_folder(folder) as temporary:
        for name, (path, _) in found.items():
            if not fnmatch(name, f"{PICKLED}*"):
                link(path, temporary / name)
        if pickled:
            convert({name: found[name][0] for name in pickled}, temporary, what)
        digests = {name: digest for name, (_, digest) in found.items()}
        hashes = {
            path.name: digests.get(path.name) or sha256(path)
            for path in sorted(temporary.iterdir())
        }
        manifest = {
            "commit": commit,
            "converted_from": {name: digests[name] for name in pickled},
            "files": hashes,
            "repository": repository,
            "revision": revision,
            "sha256": hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
        }
        write_json(temporary / MANIFEST, manifest)
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def files_of(api: HfApi, name: str, revision: str, what: str) -> tuple[str, dict[str, RepoSibling]]:
    """The commit that `revision` names and its files at the top level, with sizes and hashes."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        info = api.repo_info(name, revision=revision, files_metadata=True, timeout=client.TIMEOUT)
    except RevisionNotFoundError as error:
        near = client.no_revision(revision, client.revisions(api, name, "model"))
        raise PipelineError(f"{what}: {near}") from error
    return info.sha, {f.rfilename: f for f in info.siblings if "/" not in f.rfilename}


def wanted(names: Iterable[str], what: str) -> tuple[list[str], list[str], list[str]]:
    """Those files of a revision that are a checkpoint: its description, weights and their index."""
    names = sorted(names)
    described = [n for n in names if any(fnmatch(n, pattern) for pattern in DESCRIPTION)]
    kind = next((k for k in (SAFETENSORS, PICKLED) if any(fnmatch(n, k) for n in names)), None)
    if "config.json" not in described or kind is None:
        raise PipelineError(
            f"{what}: needs config.json and {SAFETENSORS} or {PICKLED}; it has {', '.join(names)}"
        )
    weights = [n for n in names if fnmatch(n, kind)]
    return described, weights, [n for n in names if fnmatch(n, f"{kind}.index.json")]


def check_space(work: Path, files: list[RepoSibling], weights: list[str], what: str) -> None:
    """PipelineError unless the disk has room for what is not there yet, before any of it is asked.

    Pickled weights are there twice for a while: as they come, and as safetensors.
    """
    work.mkdir(parents=True, exist_ok=True)
    needed = 0
    for file in files:
        twice = file.rfilename in weights and fnmatch(file.rfilename, PICKLED)
        needed += file.size * (2 if twice else 1) - size_of(place(file, work))
    free = shutil.disk_usage(work).free
    if needed > free:
        raise PipelineError(
            f"{what}: needs {needed / 1e9:.1f} GB more on the disk of {work}, which has "
            f"{free / 1e9:.1f} GB free"
        )


def place(file: RepoSibling, work: Path) -> Path:
    """Where a fetched file waits, by its content; half of one has the suffix .partial."""
    return work / (file.lfs.sha256 if file.lfs else file.blob_id)


def size_of(path: Path) -> int:
    parts = (path, path.with_suffix(".partial"))
    return sum(part.stat().st_size for part in parts if part.exists())


def fetch(
    api: HfApi, name: str, commit: str, file: RepoSibling, work: Path, what: str
) -> tuple[Path, str]:
    """One file, from where a former attempt stopped. Returns where it is and its SHA-256."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    where = f"{what}, {file.rfilename}"
    path = place(file, work)
    partial = path.with_suffix(".partial")
    if not path.exists():
        url = hf_hub_url(name, file.rfilename, revision=commit, endpoint=api.endpoint)
        headers = build_hf_headers(token=api.token)
        with partial.open("ab") as stream:
            try:
                http_get(
                    url,
                    stream,
                    resume_size=stream.tell(),
                    headers=headers,
                    expected_size=file.size,
                    displayed_filename=file.rfilename,
                )
            except HfHubHTTPError as error:
                if error.response.status_code == 416:  # more is here than the hub has
                    partial.unlink()
                raise
            except OSError as error:
                if error.errno is not None:  # the system's: a full disk
                    raise
                size = stream.tell()
                partial.unlink()
                raise PipelineError(
                    f"{where}: {size:,} bytes came; the hub says {file.size:,}"
                ) from error
        digest = check_hash(partial, file, where)
        partial.rename(path)
        return path, digest
    return path, check_hash(path, file, where)


def check_hash(path: Path, file: RepoSibling, where: str) -> str:
    """SHA-256 of a fetched file; one that is not what the hub says is removed, with an error.

    The hub tells the SHA-256 of files in LFS, and of others what git calls them.
    """
    ours, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            ours.update(block)
            if not file.lfs:
                git.update(block)
    kind, found, expected = (
        ("SHA-256", ours.hexdigest(), file.lfs.sha256)
        if file.lfs
        else ("git hash", git.hexdigest(), file.blob_id)
    )
    if found != expected:
        path.unlink()
        raise PipelineError(f"{where}: its {kind} is {found}; the hub says {expected}")
    return ours.hexdigest()


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

    weight_map, size = {}, 0
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

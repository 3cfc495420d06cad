"""One revision of a hub repository as a checkpoint directory: safetensors and a manifest.

Only the configuration, the tokenizer and the weights are taken; no code of the repository is. The
manifest says which commit the revision named and the SHA-256 of every file. Where the repository
is a local folder, each revision is a folder in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from fnmatch import fnmatch
from pathlib import Path

from overtrain import PipelineError, hub
from overtrain.provenance import sha256, whole_folder, write_json

MANIFEST = "manifest.json"
DESCRIPTION = ("config.json", "generation_config.json", "special_tokens_map.json", "tokenizer*")
SAFETENSORS, PICKLED = "model*.safetensors", "pytorch_model*.bin"


def download_checkpoint(repository: str, revision: str, folder: Path, work: Path) -> dict:
    """Fill `folder` with `revision` of `repository`. Returns the manifest.

    work: where half a download waits, outside the outputs that Snakemake clears, so that the next
    attempt goes on with it. PipelineError if the revision does not exist or has no weights.
    """
    commit, names = files_of(repository, revision)
    what = f"{repository} at {revision}"
    wanted = [n for n in names if any(fnmatch(n, pattern) for pattern in DESCRIPTION)]
    weights = [n for n in names if fnmatch(n, SAFETENSORS)]
    pickled = [] if weights else [n for n in names if fnmatch(n, PICKLED)]
    if "config.json" not in wanted or not (weights or pickled):
        raise PipelineError(
            f"{what}: needs config.json and {SAFETENSORS} or {PICKLED}; it has {', '.join(names)}"
        )
    index = [n for n in names if weights and fnmatch(n, f"{SAFETENSORS}.index.json")]
    wanted += weights + index + pickled
    local = Path(repository).is_dir()
    source = Path(repository, revision) if local else fetch(repository, commit, wanted, work)
    with whole_folder(folder) as temporary:
        for name in wanted:
            if name not in pickled:
                (shutil.copyfile if local else os.link)(source / name, temporary / name)
        if pickled:
            convert([source / name for name in pickled], temporary, what)
        files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        manifest = {
            "commit": commit,
            "converted_from": pickled,
            "files": files,
            "repository": repository,
            "revision": revision,
            "sha256": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        }
        write_json(temporary / MANIFEST, manifest)
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def files_of(repository: str, revision: str) -> tuple[str, list[str]]:
    """The commit that `revision` names and its files at the top level."""
    if Path(repository).is_dir():
        folder = Path(repository, revision)
        if not folder.is_dir():
            raise PipelineError(f"{repository} at {revision}: no such folder in it")
        return revision, sorted(path.name for path in folder.iterdir() if path.is_file())
    from huggingface_hub import HfApi

    with hub.one_line(f"{repository} at {revision}"):
        info = HfApi().repo_info(repository, revision=revision, repo_type="model")
    return info.sha, sorted(f.rfilename for f in info.siblings if "/" not in f.rfilename)


def fetch(repository: str, commit: str, names: list[str], work: Path) -> Path:
    """Download the files `names` of `commit` into `work`."""
    from huggingface_hub import snapshot_download

    with hub.one_line(f"{repository} at {commit}"):
        snapshot_download(repository, revision=commit, local_dir=work, allow_patterns=names)
    return work


def convert(shards: list[Path], folder: Path, what: str) -> None:
    """Write pickled weights as safetensors, a file for each, with an index if they are several.

    Only tensors are unpickled (`weights_only`); anything else in a file is an error.
    """
    import torch
    from safetensors.torch import save_file

    weight_map, size = {}, 0
    for shard in shards:
        try:
            tensors = torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise PipelineError(
                f"{what}, {shard.name}: not a file of weights alone ({str(error).split('.')[0]})"
            ) from error
        name = shard.name.replace("pytorch_model", "model").replace(".bin", ".safetensors")
        own = {key: tensor.clone() for key, tensor in tensors.items()}  # safetensors share nothing
        save_file(own, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(own, name)
        size += sum(tensor.nbytes for tensor in own.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)

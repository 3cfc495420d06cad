"""Seeds from names, hashes, versions, the commit; files written whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

# Packages whose version can change a result.
PACKAGES = (
    "accelerate",
    "alpaca-eval",
    "datasets",
    "lm-eval",
    "matplotlib",
    "numpy",
    "openai",
    "pandas",
    "peft",
    "pillow",
    "pyarrow",
    "rouge-score",
    "safetensors",
    "scikit-learn",
    "scipy",
    "seaborn",
    "snakemake",
    "statsmodels",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
)


def seed_of(*identity: str | int | float) -> int:
    """A seed in [0, 2^63) from what a random draw is for, the same on every machine."""
    digest = hashlib.sha256(json.dumps(identity).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(path: Path) -> str | None:
    """Of a file, or of a folder: its manifest's, or that of its weights; None if it has neither."""
    if path.is_file():
        return sha256(path)
    if (manifest := path / "manifest.json").exists():
        return json.loads(manifest.read_text())["sha256"]
    weights = path / "model.safetensors"
    return sha256(weights) if weights.exists() else None


def hash_of_all(paths: list[Path]) -> str | None:
    """One of the hashes of several, in their order; None if there is none."""
    hashes = [hash_of(path) for path in paths]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest() if hashes else None


def git_commit(root: Path = Path(__file__).parent) -> str:
    """The commit of the code, with a `+` if tracked files differ; 'unknown' outside git."""
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty=+",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance(config: dict, data: dict[str, str], device: str = "cpu", **more: object) -> dict:
    """Where a result came from.

    config: the slice of the configuration it depends on; data: hash of each input by name; more:
    what else identifies it (seed, model, ...). Holds no time and no path: the same work gives the
    same bytes.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # an environment holds only what its rules need
    return {
        "commit": git_commit(),
        "config": config,
        "data": data,
        "device": device,
        "versions": versions,
    } | more


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end; gone if the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial(path)
    try:
        yield temporary
        permit(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it at the end; gone if the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial(path)
    temporary.mkdir()
    try:
        yield temporary
        permit(*temporary.rglob("*"))
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def partial(path: Path) -> Path:
    """Where this process writes `path` until it is whole; no other process on any node does."""
    writer = f"{socket.gethostname()}-{os.getpid()}"
    return path.with_name(f".{path.name}.{writer}.partial{path.suffix}")  # libraries read suffixes


def remove_partials(path: Path) -> None:
    """Remove what dead processes left of `path`. For who alone may write it (`records.locks`)."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def permit(*paths: Path) -> None:
    """Give files the permissions that the umask allows: safetensors' are their owner's alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in filter(Path.is_file, paths):
        path.chmod(path.stat().st_mode | (0o666 & ~mask))


def write_json(path: Path, content: object) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

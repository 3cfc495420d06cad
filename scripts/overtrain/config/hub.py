"""What an entry of the configuration asks of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS = Path("results/checkpoints")  # a folder in it stands in for a repository


@dataclass(frozen=True)
class Asked:
    """A repository at a revision, and the keys, below the entry, that name them.

    kind: model or dataset; files: the ones that are needed: "checkpoint" or "encoder", or a
    mapping with a template and their count, a folder, or names; None: all.
    """

    key: str
    kind: str
    repository: str
    revision: str
    name_key: str
    files: object = None


def is_local(repository: str) -> bool:
    """Whether a repository is a folder, there or still to be made; the hub's are owner/name."""
    path = Path(repository)
    return path.is_absolute() or repository.count("/") > 1 or path.is_dir()

"""The folder in which a model is trained: its states, from the last of which a killed job goes on.

It says what it is a state of, and a training of other settings or data starts it anew. One job at
a time has it, which removes it when its outputs are kept (`scripts/job.py`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from overtrain import PipelineError
from overtrain.records.provenance import permit, whole_file, write_json

IDENTITY = "identity.json"  # of a state's folder: what it is a state of
COMPLETE = "complete.json"  # written last: a state without it is half of one


def read_identity(state: Path) -> dict:
    """What the folder is a state of; empty if there is none."""
    path = state / IDENTITY
    return json.loads(path.read_text()) if path.exists() else {}


def prepare_state(state: Path, identity: dict) -> None:
    """An empty folder `state`, or that of an earlier attempt at what `identity` describes."""
    known = json.dumps(identity, sort_keys=True)
    if json.dumps(read_identity(state), sort_keys=True) != known:
        if state.exists():
            print("a state of other settings was found and is discarded")
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        write_json(state / IDENTITY, identity)
    for half in state.glob(".*.partial*"):  # of a job that was killed
        half.unlink()


def save_state(path: Path, content: dict) -> None:
    """Write tensors, numbers and text, without a second copy of any tensor in memory."""
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def load_state(path: Path) -> dict | None:
    """What `save_state` wrote, its tensors read when they are used; None if there is none."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


# --- of transformers' Trainer: a folder for each --------------------------------------------------


def complete(last: Path) -> None:
    """Say that a state is whole, and remove all others."""
    permit(*last.rglob("*"))
    (last / COMPLETE).write_text("{}")
    remove_states(last.parent, last)


def remove_states(state: Path, but: Path | None = None) -> None:
    for path in state.glob("checkpoint-*"):
        if path != but:
            shutil.rmtree(path)


def last_state(state: Path) -> Path | None:
    """The newest whole state; halves of others are removed."""
    found = {path for path in state.glob("checkpoint-*") if (path / COMPLETE).exists()}
    if not dist.is_initialized() or dist.get_rank() == 0:
        for half in set(state.glob("checkpoint-*")) - found:
            shutil.rmtree(half)
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


@contextmanager
def told_of_full_disk(folder: Path) -> Iterator[None]:
    """Any error on a full disk becomes one line: torch's own do not say what was wrong."""
    try:
        yield
    except PipelineError:
        raise
    except (Exception, CheckpointException) as error:  # the latter is none of the former
        full = shutil.disk_usage(folder).free < 2**20
        if not full and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise PipelineError(
            f"no space left on the disk that holds {folder}; free some, run again"
        ) from error

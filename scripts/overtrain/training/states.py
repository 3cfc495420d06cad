"""The folder in which a run is trained: its states, from the last of which a killed run goes on.

It says what it is a state of, and a run of other settings or data starts it anew. The finished
model stays in it until its last evaluation is done (rule evaluate_c4_instruct): Snakemake runs all
of a failed group again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from overtrain import PipelineError
from overtrain.records.provenance import whole_folder, write_json

IDENTITY = "identity.json"  # of a state's folder: what it is a state of
COMPLETE = "complete.json"  # written last: a state without it is half of one
FINISHED = "finished"  # of a state's folder: the model as it is handed on, and its measurements


def hand_on(
    state: Path, identity: dict, output: Path, tune: Callable[[Path], list[dict]]
) -> list[dict]:
    """The model's directory `output` of the run that `identity` describes, and its measurements.

    tune: trains it from its last state, writes a model's directory and returns measurements.

    What it leaves stays in `state` too, as hard links, and a run of the same identity takes it
    from there.
    """
    prepare_state(state, identity)
    finished = state / FINISHED
    if finished.exists():
        print(f"taken from {finished}, where an earlier attempt left it")
    else:
        with whole_folder(finished) as folder, told_of_full_disk(state):
            rows = tune(folder / "model")
            write_json(folder / "rows.json", rows)
    for path in state.iterdir():
        if path.name not in (FINISHED, IDENTITY):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with whole_folder(output) as folder:
        shutil.copytree(finished / "model", folder, copy_function=link, dirs_exist_ok=True)
    return json.loads((finished / "rows.json").read_text())


def prepare_state(state: Path, identity: dict) -> None:
    """An empty folder `state`, or that of an earlier attempt at the same run."""
    path = state / IDENTITY
    known = json.dumps(identity, sort_keys=True)
    if not path.exists() or path.read_text() != known:
        if state.exists():
            print("a state of other settings was found and is discarded")
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        path.write_text(known)


def complete(last: Path) -> None:
    """Say that a state is whole, and remove all others."""
    (last / COMPLETE).write_text("{}")
    for other in last.parent.glob("checkpoint-*"):
        if other != last:
            shutil.rmtree(other)


def last_state(state: Path) -> Path | None:
    """The newest whole state; halves of others are removed."""
    found = {path for path in state.glob("checkpoint-*") if (path / COMPLETE).exists()}
    if not dist.is_initialized() or dist.get_rank() == 0:
        for half in set(state.glob("checkpoint-*")) - found:
            shutil.rmtree(half)
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def link(source: str, target: str) -> None:
    """A hard link, which costs no disk; a copy where there are none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


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

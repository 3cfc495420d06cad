"""Finished outputs that the workflow may not have recorded yet.

Between a job's last write and Snakemake's record of it, its time may run out, its node or the main
process may die. Snakemake then deletes the outputs and starts the job again; it does the same with
every member of a group of which a later one fails. So a job's outputs stay here, as hard links,
with what they are of: the same job finds them at its next start and is done. Once they are recorded
they are forgotten (`scripts/main.py`).

    results/state/kept/{rule},{wildcards}/     identity.json, and each output by its name
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from overtrain.records.provenance import whole_folder, write_json

IDENTITY = "identity.json"
SPENT = "spent.json"  # stands for weights that nobody needs any more


def keep(place: Path, outputs: dict[str, Path], identity: dict) -> None:
    """Keep a job's outputs, files or folders by name, in the folder `place`."""
    with whole_folder(place) as folder:
        for name, path in outputs.items():
            link(path, folder / name)
        paths = {name: str(path) for name, path in outputs.items()}
        write_json(folder / IDENTITY, {"of": identity, "outputs": paths})


def take(place: Path, outputs: dict[str, Path], identity: dict) -> bool:
    """Whether the outputs of a job with this identity were kept, and now are where they belong."""
    if read(place).get("of") != json.loads(json.dumps(identity)):
        return False
    for name, path in outputs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        link(place / name, path)
        os.utime(path)  # newer than the inputs, which may have been taken from here, too
    return True


def read(place: Path) -> dict:
    """What was kept (`of`), and where its outputs belong; empty if nothing was."""
    try:
        return json.loads((place / IDENTITY).read_text())
    except FileNotFoundError:
        return {}


def spend(place: Path, name: str) -> None:
    """Give up the kept weights `name`, a folder, when their last reader is done.

    What is left says so, with their provenance, and readers whose own results are kept take it.
    """
    if not (place / name).is_dir():
        return
    with whole_folder(place / name) as folder:
        write_json(folder / SPENT, {})
        if (place / name / "provenance.json").exists():
            link(place / name / "provenance.json", folder / "provenance.json")


def link(source: Path, target: Path) -> None:
    """A second name for a file, or for each in a folder; a copy where there are no hard links."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link_file, dirs_exist_ok=True)
    else:
        link_file(source, target)


def link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)

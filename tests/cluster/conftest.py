"""The cluster, a run on it that nothing disturbs, and what to start faults from.

Asked for by `make test-slurm`, which sets OVERTRAIN_SLURM: then what cannot be installed is an
error, never a skip.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import NAME, Cluster, processes_in, until
from mains import CONFIGURATION, FIGURES, Main, environment

ASKED = "OVERTRAIN_SLURM"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("slurm")
            if not os.environ.get(ASKED):
                reason = f"installs Slurm on this machine, as root: make test-slurm sets {ASKED}"
                item.add_marker(pytest.mark.skip(reason))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp(NAME)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def local(repository, tmp_path_factory) -> Path:
    """The figures' chains without a cluster, in one process where that is possible (tools/warm)."""
    folder = copy_of(repository, tmp_path_factory.mktemp("local"))
    line = [sys.executable, "tools/warm", sys.executable, "-m", "snakemake", "--cores", "2"]
    with (folder / "output.txt").open("w") as file:
        line += [*CONFIGURATION, "--", *FIGURES]
        done = subprocess.run(line, cwd=folder, env=environment(), stdout=file, stderr=file)
    assert done.returncode == 0, (folder / "output.txt").read_text()[-6000:]
    return folder


@pytest.fixture(scope="session")
def finished(repository, cluster, tmp_path_factory) -> Path:
    """The same on the cluster; not to be written to."""
    folder = copy_of(repository, tmp_path_factory.mktemp("finished"))
    Main(folder, *FIGURES).succeeds(900)
    return folder


@pytest.fixture
def begun(finished, cluster, tmp_path) -> Iterator[Path]:
    """A copy with corpora, tasks and the small checkpoint; after the test nothing of it runs."""
    folder = copy_of(finished, tmp_path)
    results = folder / "results"
    for path in results.iterdir():
        if path.name not in ("corpora", "tasks", "checkpoints"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in results.glob("checkpoints/*/*"):
        if path.relative_to(results / "checkpoints").parts != ("OLMo-10K", "0.05M"):
            shutil.rmtree(path)
    yield folder
    try:
        until(lambda: not cluster.jobs() and not list(processes_in(folder)), 20, "nothing running")
    finally:
        cluster.clear()
        for process in processes_in(folder):
            process.kill()


def copy_of(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place / "copy", symlinks=True))

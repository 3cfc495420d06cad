"""Engines beside Slurm: a batch system behind profiles/generic, and an object store.

The batch system is a real Grid Engine, the object store a real server that speaks S3. Neither they
nor Snakemake's plugins are in the lock: without them the tests are skipped and say what to install.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import grid_engine
import pytest
from grid_engine import GridEngine, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TINY = ["--configfile", "profiles/demo/overlay.yaml", "tests/tiny.yaml"]
GENERIC = ["--profile", "profiles/generic"]

# Rules that end in every way, in the time that a queue takes.
ENDS = """
rule all:
    input: "good", "bad", "lost"
    localrule: True
rule good:
    output: "good"
    resources: mem_mb=100, runtime=5, gpu=0
    shell: "echo $NSLOTS > {output}"
rule bad:
    output: "bad"
    resources: mem_mb=100, runtime=5, gpu=0
    shell: "exit 3"
rule lost:
    output: "lost"
    resources: mem_mb=100, runtime=5, gpu=1
    threads: 2
    shell: "echo half > {output}; sleep 600"
"""


def needs(*modules: str) -> None:
    """Skip where Python packages are not there."""
    missing = [name.replace("_", "-") for name in modules if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs packages beside the lock (docs/engines.md): {' '.join(missing)}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[GridEngine]:
    needs("snakemake_executor_plugin_cluster_generic")
    if why := grid_engine.lacks():
        pytest.skip(why)
    engine = GridEngine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


def snakemake(folder: Path, environment: dict, *arguments: str) -> subprocess.Popen:
    """Snakemake in `folder`; all its output goes to a file there."""
    line = [sys.executable, "-m", "snakemake", *arguments]
    with (folder / "output").open("w") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen(line, cwd=folder, env=environment, **streams)


@pytest.fixture(scope="module")
def figures(engine, repository, tmp_path_factory) -> Path:
    """Where Figs 3 and 5 were made through the queue."""
    folder = Path(
        shutil.copytree(repository, tmp_path_factory.mktemp("queue") / "copy", symlinks=True)
    )
    run = snakemake(folder, engine.environment, *GENERIC, *TINY, "--", "fig03", "fig05")
    assert run.wait() == 0, (folder / "output").read_text()
    return folder


def test_figures_are_made_through_the_queue(figures, engine):
    """A job for each training and measurement, and one for a sweep with its evaluations."""
    names = [f"results/figures/overtrained/{name}.csv" for name in ("fig03", "fig05")]
    assert all((figures / name).stat().st_size for name in names)
    accounts = engine.accounts()
    assert [(a["failed"], a["exit_status"]) for a in accounts] == [("0", "0")] * 6
    sweep = "sweep.OLMo-10K.{}.same_docstring.default_evaluate_c4_evaluate_id_finetune"
    rules = ["pretrain"] * 2 + ["perturb_gaussian"] * 2
    sweeps = [sweep.format(tokens) for tokens in ("0.05M", "0.1M")]
    assert sorted(a["jobname"] for a in accounts) == sorted([*rules, *sweeps])
    assert not list((figures / "results/state/batch").iterdir())


@pytest.fixture
def ends(repository, tmp_path) -> Path:
    """A small workflow under the same profile."""
    for name in ("generic", "default"):
        shutil.copytree(repository / "profiles" / name, tmp_path / "profiles" / name)
    (tmp_path / "Snakefile").write_text(ENDS)
    return tmp_path


def test_a_job_that_fails_and_one_that_is_killed_are_noticed(ends, engine):
    run = snakemake(ends, engine.environment, *GENERIC, "--retries", "0")
    wait_for((ends / "lost").exists, "the job did not start", 60)
    job = engine.jobs()["lost"]
    asked = engine.ask("qstat", "-j", job)
    assert re.search(r"hard resource_list: +mem_free=100M,h_rt=300,gpu=1\n", asked), asked
    assert re.search(r"parallel environment: +smp range: 2\n", asked), asked
    engine.ask("qdel", job)
    assert run.wait() == 1
    told = (ends / "output").read_text()
    assert re.findall(r"Error in rule (\w+)", told) == ["bad", "lost"], told
    assert (ends / "good").read_text() == "1\n"
    assert not (ends / "lost").exists()  # half of it was there
    assert not list((ends / "results/state/batch").iterdir())


def test_a_main_process_that_is_interrupted_takes_its_jobs_with_it(ends, engine):
    run = snakemake(ends, engine.environment, *GENERIC, "--", "lost")
    wait_for((ends / "lost").exists, "the job did not start", 60)
    run.send_signal(signal.SIGINT)
    assert run.wait() == 1
    wait_for(lambda: not engine.jobs(), "the job runs on")


def test_a_batch_system_that_does_not_answer_is_asked_again(ends, engine):
    (ends / "qstat").write_text("#!/bin/sh\nexit 1\n")
    (ends / "qstat").chmod(0o755)
    path = {"PATH": f"{ends}:{os.environ['PATH']}"}
    line = ["profiles/generic/status", "1"]
    for _ in range(2):
        said = subprocess.run(line, cwd=ends, env=engine.environment | path, capture_output=True)
        assert said.stdout == b"running\n"


# --- an object store ------------------------------------------------------------------------------


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def store() -> Iterator[str]:
    """Address of a server that speaks S3."""
    needs("moto", "flask", "snakemake_storage_plugin_s3")
    (port,) = grid_engine.free_ports(1)
    line = [sys.executable, "-c", "from moto.server import main; main()", "-p", port]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(int(port)), "the store does not answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def test_a_figure_is_made_over_an_object_store(store, repository, tmp_path):
    folder = Path(shutil.copytree(repository, tmp_path / "copy", symlinks=True))
    keys = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "any", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "any"}
    where = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://overtrain"]
    where += ["--storage-s3-endpoint-url", store, "--shared-fs-usage", "none"]
    line = ["--cores", "2", *TINY, *where]
    for options in ([], ["-n"]):
        run = snakemake(folder, os.environ | keys, *line, *options, "--", "fig03")
        assert run.wait() == 0, (folder / "output").read_text()
    assert "Nothing to be done" in (folder / "output").read_text()  # the store's times are right
    assert not list((folder / "results").rglob("*.pdf"))  # what is made is in the store alone

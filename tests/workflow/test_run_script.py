"""One script alone on finished inputs: what it writes is what its job writes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SET = ["--configfile", "profiles/demo/overlay.yaml", "--config", "own=tests/tiny.yaml"]
TASK = "results/tasks/same_docstring/manifest.json"
FIGURE = "results/figures/overtrained/fig07.pdf"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def alone(folder: Path, target: str) -> subprocess.CompletedProcess:
    return run(folder, "tools/run_script.py", *SET, "--", target)


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory) -> Path:
    """A copy of the repository in which Snakemake has made TASK and FIGURE."""
    copy = Path(shutil.copytree(repository, tmp_path_factory.mktemp("run") / "copy", symlinks=True))
    done = run(copy, "-m", "snakemake", "--cores", "1", *SET, "--", TASK, FIGURE)
    assert done.returncode == 0, done.stderr
    return copy


@pytest.mark.parametrize(
    ("target", "others", "log"),
    [
        (TASK, ["train.parquet", "validation.parquet", "test.parquet"], "prepare_task"),
        (FIGURE, ["fig07.csv", "fig07.png", "fig07.json"], "figure"),
    ],
)
def test_a_script_run_alone_writes_what_its_job_wrote(finished, target, others, log):
    folder = (finished / target).parent
    paths = [folder / name for name in others]
    wrote = {path: path.read_bytes() for path in paths}
    logs = {path: path.read_text() for path in (finished / "results/logs" / log).rglob("*.log")}
    for path in (finished / target, *paths):
        path.unlink()
    done = alone(finished, target)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in paths} == wrote and (finished / target).exists()
    assert logs and {path: path.read_text() for path in logs} == logs  # it went to the terminal


def test_a_training_run_alone_again_is_trained_again(finished):
    """A job on a model keeps its outputs for its next start; a debugger wants none of that."""
    corpus, checkpoint = "results/corpora/pydoc", "results/checkpoints/OLMo-10K/0.05M"
    assert alone(finished, corpus).returncode == 0
    for _ in range(2):
        done = alone(finished, checkpoint)
        assert done.returncode == 0, done.stderr
        assert "earlier attempt" not in done.stdout and "100%" in done.stderr, done.stdout
    shutil.rmtree(finished / checkpoint)  # below, it is missing


def test_a_debugger_stops_where_the_script_does(finished):
    script = finished / "scripts/figure.py"
    line = 1 + next(n for n, text in enumerate(script.open()) if "read_optional(job" in text)
    said = ["b {script}:{line}", "c", "p sorted(job.slice)[0]", "q"]
    commands = [part for own in said for part in ("-c", own.format(script=script, line=line))]
    done = run(finished, "-m", "pdb", *commands, "tools/run_script.py", *SET, "--", FIGURE)
    assert f"figure.py:{line}" in done.stdout and "'caption'" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (
            "results/figures/overtrained/fig05.pdf",
            "results/aggregates/overtrained/fig05.parquet is missing, which rule figure reads",
        ),
        (
            "results/measurements/OLMo-10K/0.05M/gaussian.parquet",
            "results/checkpoints/OLMo-10K/0.05M is missing, which rule perturb_gaussian reads",
        ),
        (
            "results/figures/overtrained/mine.pdf",
            "results/figures/overtrained/mine.pdf is not of this configuration "
            "(KeyError: 'mine'); name your own files, too: --config own=mine.yaml",
        ),
        ("results/nothing", "results/nothing: made by no rule with a script"),
    ],
)
def test_what_is_missing_is_one_line(finished, target, line):
    done = alone(finished, target)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {line}" and "Traceback" not in done.stderr

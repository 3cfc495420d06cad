"""The main process: one in a directory, and what it says of a disk that takes nothing more."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import main
from overtrain import PipelineError
from overtrain.records.locks import exclusive


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_lock_of_a_dead_main_process_may_be_removed():
    main.check_unlock(["snakemake", "--unlock"])
    main.LOCK.parent.mkdir(parents=True)
    main.LOCK.write_text("process 7 on a node")  # which nobody holds
    main.check_unlock(["snakemake", "--unlock"])


def test_that_of_a_living_one_may_not():
    with exclusive(main.LOCK):
        main.check_unlock(["snakemake", "-n"])
        with pytest.raises(PipelineError, match="runs the workflow in this directory; let it end"):
            main.check_unlock(["snakemake", "--unlock"])


LIMITED = """
import resource, sys
import main
print(main.no_room(main.Path(".")))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
print(main.no_room(main.Path(".")))
"""


def test_why_nothing_can_be_written_is_told():
    """A limit on a file's size stands for a full disk or a quota."""
    scripts = Path(main.__file__).parent
    line = [sys.executable, "-c", LIMITED]
    done = subprocess.run(line, env={"PYTHONPATH": str(scripts)}, capture_output=True, text=True)
    assert done.stdout.split("\n") == ["None", "File too large", ""], done.stderr


def test_jobs_that_need_vllm_are_refused_where_there_is_none(repository, tmp_path):
    """At the papers' scale answers are vLLM's; without its environment they would fail last."""
    folder = tmp_path / "copy"
    shutil.copytree(repository, folder)
    own = "evaluations: {alpaca: {backend: vllm}}\n"
    (folder / "vllm.yaml").write_text(own)
    line = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile"]
    line += ["profiles/demo/overlay.yaml", "tests/tiny.yaml", "vllm.yaml", "--"]
    done = subprocess.run([*line, "fig11"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: generate_responses: vLLM is not here" in done.stderr, done.stderr
    assert not (folder / "results/checkpoints").exists()
    done = subprocess.run(
        [*line[:3], "-n", *line[3:], "fig11"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0  # a plan needs none

"""The main process: one in a directory, and what it says of a disk that takes nothing more."""

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

"""The workflow's main process on the test's cluster, and what its jobs' scripts do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
from machine import MORTAL, processes_in, until

CONFIGURATION = ["--configfile", "profiles/slurm/site.yaml", "profiles/demo/overlay.yaml"]
CONFIGURATION += ["tests/tiny.yaml", "tests/cluster/tiny.yaml"]
# The profile as it is, but for what this cluster does not have: accounting.
CLUSTER = ["--profile", "slurm", "--jobs", "4", "--slurm-status-command", "squeue"]
# One of each study: noise, fine-tuning, instruction tuning with benchmarks and a judge, visual
# tuning, theory.
FIGURES = ["fig03", "fig05", "fig11", "fig24", "theory_noise"]
# And of the second paper, where copies of its numbers are at hand.
COPIES = Path(__file__).parents[3] / "shared" / "published"
RELEASED_NUMBERS = Path(os.environ.get("OVERTRAIN_RELEASED_NUMBERS", COPIES))
if RELEASED_NUMBERS.is_dir():
    FIGURES += ["amuro_char_fig04"]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OVERTRAIN_RELEASED_NUMBERS": str(RELEASED_NUMBERS)}


class Main:
    """`snakemake --profile slurm` in `folder`, started; its output is in a file of its own."""

    def __init__(self, folder: Path, *targets: str, options: tuple[str, ...] = ()):
        self.folder = folder
        self.output = folder / f"main{len(list(folder.glob('main*.txt')))}.txt"
        line = [*MORTAL, sys.executable, "tests/cluster/impatient.py"]
        line += [*CLUSTER, *options, *CONFIGURATION]
        with self.output.open("w") as file:
            self.process = psutil.Popen(
                [*line, "--", *targets], cwd=folder, env=environment(), stdout=file, stderr=file
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def run(self) -> str:
        """The id that names its jobs."""
        until(lambda: "SLURM run ID" in self.said or self.ended, 60, "the run's id")
        return re.search(r"SLURM run ID: (\S+)", self.said)[1]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def ends(self, seconds: float = 400) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            raise AssertionError(f"the main process runs on: {self.said[-4000:]}") from None

    def succeeds(self, seconds: float = 400) -> None:
        assert self.ends(seconds) == 0, self.said[-6000:]

    def script(self, name: str, log: str = "") -> psutil.Process:
        """The process of a job's script, as soon as it runs and its log has the text."""
        found = []

        def running() -> bool:
            found[:] = scripts(self.folder, name)
            logs = (self.folder / "results/logs" / name).rglob("*.log")
            return bool(found and (not log or any(log in path.read_text() for path in logs)))

        until(lambda: running() or self.ended, 240, f"{name} running")
        assert found, self.said[-4000:]
        return found[0]

    def kill(self) -> None:
        """kill -9: its jobs stay."""
        self.process.kill()
        self.process.wait(20)


def scripts(folder: Path, name: str) -> list[psutil.Process]:
    """Processes that run the script of a rule, without those that only started them."""
    found = []
    for process in processes_in(folder):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if len(line) > 1 and "python" in line[0] and line[1].endswith(f".{name}.py"):
            found.append(process)
    return found


def unlock(folder: Path) -> None:
    line = [sys.executable, "-m", "snakemake", *CLUSTER, *CONFIGURATION, "--unlock"]
    done = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

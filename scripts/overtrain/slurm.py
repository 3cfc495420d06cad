"""What Slurm says before a run starts: would the run wait for ever, and who is at work here?

Snakemake asks Slurm whether a job has ended. `sacct` knows only where Slurm keeps accounting; else
it answers nothing, and the run would wait in silence. `squeue` knows for as long as Slurm remembers
ended jobs (MinJobAge).

Jobs outlive a main process that is killed. They are called by the run's id, and work in the
directory of the run.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from overtrain import PipelineError

PROFILE = "profiles/slurm/config.yaml"
PAUSE = 180  # seconds, the longest between two questions that Snakemake asks of Slurm
RUN = re.compile(r"(\w[\w-]*_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a run's id
FORMAT = "%i|%j|%T|%Z"


@dataclass(frozen=True)
class Job:
    """A job of this directory that Slurm has not ended."""

    id: str
    run: str
    state: str


def check_accounting(status_command: str, first_check: int) -> None:
    """PipelineError where a run would never hear of a job's end.

    status_command: what Snakemake asks, `slurm-status-command`; first_check: its
    `slurm-init-seconds-before-status-checks`.
    """
    if not shutil.which("sacct"):
        status_command = "squeue"  # as Snakemake does
    if (settings := answer("scontrol", "show", "config")) and (
        fault := why_silent(settings, status_command, first_check)
    ):
        raise PipelineError(fault)


def why_silent(settings: str, status_command: str, first_check: int) -> str | None:
    """Why no job's end would be heard of; settings: what `scontrol show config` prints."""
    values = dict(re.findall(r"^(\w+)\s*= *(.*?)\s*$", settings, re.MULTILINE))
    if values.get("AccountingStorageType", "").endswith("slurmdbd"):
        return None
    if status_command != "squeue":
        return (
            "this Slurm keeps no accounting, so the run would never hear that a job has ended: "
            f"set `slurm-status-command: squeue` in {PROFILE}"
        )
    needed = max(3 * first_check, PAUSE + 20)
    remembered = re.match(r"\d+", values.get("MinJobAge", ""))
    if remembered and int(remembered[0]) < needed:
        return (
            f"this Slurm keeps no accounting and forgets ended jobs after {remembered[0]} s, so "
            "the run would never hear of some: its administrator must set MinJobAge to at least "
            f"{needed} s"
        )
    return None


def check_jobs(folder: Path) -> None:
    """PipelineError where Slurm still has jobs that another run of `folder` submitted.

    Asked when no other main process is alive: theirs is dead.
    """
    user = getpass.getuser()
    listed = answer("squeue", "--noheader", f"--user={user}", f"--format={FORMAT}")
    jobs = jobs_of(listed or "", folder, os.environ.get("SLURM_JOB_ID"))
    if not jobs:
        return
    cancel = " ".join(f"scancel --name={run};" for run in dict.fromkeys(job.run for job in jobs))
    shown = ", ".join(f"{job.id} {job.state}" for job in jobs[:4])
    more = f" and {len(jobs) - 4} more" if len(jobs) > 4 else ""
    raise PipelineError(
        f"Slurm still has jobs of another run in this directory ({shown}{more}); let them end and "
        f"start again, which takes what they have made, or end them: {cancel.rstrip(';')}"
    )


def jobs_of(listed: str, folder: Path, own: str | None = None) -> list[Job]:
    """The jobs of runs in `folder` among what squeue lists, each a line like FORMAT.

    own: the job that this process runs in, if any.
    """
    jobs = []
    for line in listed.splitlines():
        number, name, state, place = line.split("|", 3)
        if RUN.fullmatch(name) and number != own and Path(place).resolve() == folder.resolve():
            jobs.append(Job(number, name, state))
    return jobs


def answer(*command: str) -> str | None:
    """What a command of Slurm prints; None where there is no Slurm, or it does not answer."""
    if not shutil.which(command[0]):
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None

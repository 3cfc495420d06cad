"""What the workflow's main process does at its start and at its end, beside what Snakemake does.

Snakemake's own lock is a file that stays when the main process is killed, so that people remove it
(`--unlock`) without knowing whether it is alive. Here it also holds a lock that ends with it. It
forgets the kept outputs of jobs that are recorded, and says when the disk is full: then no log can.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from overtrain import PipelineError, slurm
from overtrain.records import kept
from overtrain.records.locks import HeldError, exclusive

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

RESULTS = Path("results")
LOCK = RESULTS / "state" / "main.lock"
KEPT = RESULTS / "state" / "kept"

alone = ExitStack()  # holds the lock for as long as this process lives


def check_unlock(arguments: list[str]) -> None:
    """PipelineError where `--unlock` would remove the lock of a main process that is alive."""
    if "--unlock" in arguments and LOCK.exists():
        with ExitStack() as stack:
            hold(stack)


def hold(stack: ExitStack) -> None:
    """Hold the main process's lock; PipelineError where another main process does."""
    try:
        stack.enter_context(exclusive(LOCK, wait=False))
    except HeldError as who:
        raise PipelineError(
            f"{who} runs the workflow in this directory; let it end, or end it, before another"
        ) from who


def begin(workflow: Workflow) -> None:
    """End with one line where another main process, or jobs that one left, are at work here.

    Or where Slurm would never tell of a job's end, or jobs would not find vLLM.
    """
    atexit.register(alone.close)
    settings = workflow.executor_settings
    try:
        hold(alone)
        slurm.check_jobs(Path.cwd())
        if command := getattr(settings, "status_command", None):  # Slurm's executor has one
            slurm.check_accounting(command, settings.init_seconds_before_status_checks)
        check_vllm(workflow)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    forget_recorded(workflow)


def check_vllm(workflow: Workflow) -> None:
    """PipelineError where jobs need vLLM and have none: they would fail after days of tuning."""
    here = find_spec("vllm") or shutil.which("vllm")  # a judge needs its command alone
    if here or workflow.deployment_settings.deployment_method:
        return
    rules = {job.rule for job in workflow.dag.needrun_jobs()}
    if need := sorted(r.name for r in rules if Path(str(r.conda_env)).name == "vllm.yaml"):
        raise PipelineError(
            f"{', '.join(need)}: vLLM is not here, and has an environment of its own; add "
            "--sdm conda, or set backend: hf and another judge (docs/environments.md)"
        )


def end(workflow: Workflow, failed: bool = False) -> None:
    """After the last job."""
    forget_recorded(workflow)
    if failed and (reason := no_room(RESULTS)):
        print(f"error: nothing can be written to {RESULTS.resolve()}: {reason}", file=sys.stderr)


def no_room(folder: Path) -> str | None:
    """Why a megabyte cannot be written into `folder` (full, over a quota); None if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror
    return None


def forget_recorded(workflow: Workflow) -> None:
    """Forget what is kept of jobs whose outputs are recorded; of all, if some are to run by order.

    Snakemake marks outputs when their job starts, and removes the mark when it has recorded them;
    those of a group that failed it deletes.
    """
    order = workflow.dag_settings
    ordered = bool(order.forceall or order.forcerun or order.forcetargets)
    for place in [path.parent for path in KEPT.glob(f"*/{kept.IDENTITY}")]:
        paths = kept.read(place)["outputs"].values()
        unrecorded = workflow.persistence._filter_incomplete_keys(paths)
        if ordered or (not unrecorded and any(Path(path).exists() for path in paths)):
            shutil.rmtree(place)

"""The jobs that Snakemake would run, from its own graph in this process; none is started.

Reads what Snakemake keeps to itself (9.27.1): `Workflow.execute` is replaced by its first half,
which builds the graph and says what is to be done. All options of the command line, and profiles,
mean what they mean to `snakemake`.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from snakemake import cli
from snakemake.workflow import Workflow

from overtrain.planning.asked import Ask
from overtrain.planning.jobs import Jobs, Planned


@dataclass(frozen=True)
class Found:
    """The jobs, what they ask for, and the MB of disk that a profile lets all running ones take."""

    jobs: Jobs
    ask: Ask
    disk_mb: int | None
    targets: list[str]


def found(arguments: list[str]) -> Found:
    """Of a command line of snakemake, without the program; SystemExit where snakemake fails."""
    built: list[Workflow] = []

    def build(workflow: Workflow, executor_plugin: Any, **_: Any) -> None:
        """`Workflow.execute` up to where it would make a scheduler. No lock is taken."""
        workflow._executor_plugin = executor_plugin  # a dry run has groups as a cluster has
        workflow._prepare_dag(
            forceall=workflow.dag_settings.forceall,
            ignore_incomplete=workflow.execution_settings.ignore_incomplete,
            lock_warn_only=True,
        )
        workflow._build_dag()
        workflow.async_run(workflow.dag.postprocess(update_needrun=False, check_initial=True))
        built.append(workflow)

    executed, Workflow.execute = Workflow.execute, build
    try:
        with redirect_stdout(sys.stderr):  # a dry run's log goes to the one, a run's to the other
            parser, options = cli.parse_args(["--dry-run", "--quiet=all", *arguments])
            done = cli.args_to_api(options, parser)
    finally:
        Workflow.execute = executed
    if not (done and built):
        sys.exit(1)  # it has said why
    (workflow,) = built
    bound = workflow.global_resources.get("disk_mb")
    own = workflow.globals["ask"]
    return Found(jobs_of(workflow), own, getattr(bound, "value", bound), sorted(options.targets))


def jobs_of(workflow: Workflow) -> Jobs:
    dag = workflow.dag
    needed = set(dag.needrun_jobs())
    numbers = {job: number for number, job in enumerate(dag.jobs)}
    jobs = []
    for job, number in numbers.items():
        asked, group = job.resources, dag._group.get(job)
        jobs.append(
            Planned(
                number=number,
                rule=job.rule.name,
                names=dict(job.wildcards.items()),
                after=tuple(sorted(numbers[other] for other in dag.dependencies[job])),
                to_do=job in needed,
                gpus=number_of(asked, "gpu"),
                minutes=number_of(asked, "runtime"),
                disk_mb=number_of(asked, "disk_mb"),
                priority=dag.priority(job) if job in needed else 0,
                local=job.rule.name in workflow._localrules or job.rule.norun,
                group=None if group is None else id(group),
                benchmark=str(job.benchmark) if job.benchmark else None,
            )
        )
    return Jobs(jobs)


def number_of(asked: Any, name: str) -> int:
    """A resource; 0 where a job has none, or it is known only once its input is there."""
    value = asked.get(name, 0)
    return value if isinstance(value, int) else 0

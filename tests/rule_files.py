"""The workflow's rules, as their files say them, and the jobs that targets need."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def loaded(root: Path, *configfiles: Path) -> Iterator[Any]:
    """The workflow in `root`, at the papers' scale or with files over it."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

    settings = (ResourceSettings(cores=64), ConfigSettings(configfiles=list(configfiles)))
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        yield api.workflow(*settings, snakefile=root / "Snakefile", workdir=root)


def rules_of(root: Path, *configfiles: Path) -> list:
    """Snakemake's rules of the workflow in `root`."""
    with loaded(root, *configfiles) as workflow:
        return list(workflow._workflow.rules)


def jobs_of(root: Path, *targets: str) -> list:
    """What a cluster runs for `targets`: Snakemake's jobs, and its groups of jobs."""
    from snakemake.settings.types import DAGSettings

    with loaded(root) as workflow:
        workflow.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
        return list(workflow._workflow.dag.get_jobs_or_groups())

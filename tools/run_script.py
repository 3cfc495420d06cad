"""Run the script of one job alone, in this process, on inputs that are finished.

    python -m pdb -c "b $PWD/scripts/figure.py:8" -c c tools/run_script.py \
        --configfile profiles/demo/overlay.yaml -- results/figures/overtrained/fig03.pdf

From the root of the repository; without pdb it only runs. The target is any file that a rule makes;
its other outputs are made, too. Nothing is made before: an input that is missing is said in one
line. Output goes to the terminal and an error is raised as it is, so that a debugger stops there.
Snakemake then takes the outputs for new, and what is made of them for old.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import sys
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.cli import parse_config
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import Log, Snakemake
from snakemake.jobs import Job
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

ROOT = Path(__file__).parents[1]


def described(target: str, config: ConfigSettings) -> tuple[Path, Snakemake]:
    """The script of the job that makes `target`, and the object that the script reads.

    sys.exit in one line if no job makes it, or an input is missing.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(ResourceSettings(cores=os.cpu_count()), config)
        loaded.dag(DAGSettings(targets={target}))
        workflow = loaded._workflow
        rules = [rule for rule in workflow.rules if rule.script and rule.is_producer(target)]
        if len(rules) != 1:
            names = " and ".join(rule.name for rule in rules) or "no rule with a script"
            sys.exit(f"error: {target}: made by {names}")
        (rule,) = rules
        try:
            job = Job(rule, DAG(workflow, rules=workflow.rules), rule.get_wildcards(target))
        except WorkflowError as error:  # a name that the configuration does not know
            cause = next((line.strip() for line in str(error).splitlines()[1:]), error)
            hint = "name your own files, too: --config own=mine.yaml"
            sys.exit(f"error: {target} is not of this configuration ({cause}); {hint}")
        if missing := [path for path in job.input if not Path(path).exists()]:
            sys.exit(f"error: {missing[0]} is missing, which rule {rule.name} reads")
        log = Log()  # none: scripts/job.py leaves the output where it is
        script = ROOT / "scripts" / Path(rule.script).name
        own = (job.input, job.output, job.params, job.wildcards, job.threads, job.resources)
        return script, Snakemake(*own, log, workflow.config, rule.name, None, script.parent)


def run(script: Path, snakemake: Snakemake) -> None:
    for path in snakemake.output:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(script.parent))
    from job import TorchJob

    # What an earlier run has kept would be taken, and the script not run.
    shutil.rmtree(TorchJob(snakemake).kept, ignore_errors=True)
    sys.argv = [str(script)]
    runpy.run_path(str(script), {"snakemake": snakemake}, "__main__")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", nargs="+", default=[], type=Path, metavar="FILE")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("target")
    options = parser.parse_args()
    settings = ConfigSettings(parse_config(options.config), configfiles=options.configfile)
    run(*described(options.target, settings))


if __name__ == "__main__":
    main()

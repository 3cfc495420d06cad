"""overtrain: "Overtrained Language Models Are Harder to Fine-Tune" as a reproducible pipeline.

snakemake -n all_figures                           what the paper's scale would run
snakemake --profile profiles/demo all_figures      everything, small, on two CPU cores
snakemake --profile slurm all_figures              on a cluster
snakemake fig05                                    one figure and only what it needs
snakemake amuro_char_figures                       those of one paper
"""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27.1")

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from overtrain import PipelineError
from overtrain.config.asked import Ask
from overtrain.config.check import check
from overtrain.config.files import load
from overtrain.configuration import catalogue_of
from overtrain.figures.targets import Targets

try:
    layers = load(
        Path(workflow.basedir),
        workflow.config_settings.overwrite_config,
        workflow.overwrite_configfiles,
    )
    catalogue = catalogue_of(layers.config, layers.paper_task_sets)
    check(catalogue)
    targets = Targets(catalogue)
    targets.check()
except PipelineError as error:
    sys.exit(f"error: {error}")

ask = Ask(catalogue)
config |= layers.config  # what the scripts of jobs see
if workflow.is_main_process:
    print(layers.told(), file=sys.stderr)
    for line in catalogue.absent.values():
        print(f"left out of all_figures and all_tables: {line}", file=sys.stderr)


wildcard_constraints:
    **{
        name: r"[A-Za-z0-9][A-Za-z0-9_.\-]*"
        for name in (
            "corpus",
            "model",
            "checkpoint",
            "task",
            "recipe",
            "paper",
            "figure",
            "table",
            "experiment",
            "source",
            "suite",
            "run",
            "prompts",
            "judge",
        )
    },


# Tuned weights are large: a limit on disk_mb holds for all jobs together (profiles/slurm, profiles/gpu).
resource_scopes:
    disk_mb="global",


include: "rules/sources.smk"
include: "rules/corpora.smk"
include: "rules/tasks.smk"
include: "rules/download.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/finetune_instruct.smk"
include: "rules/evaluate.smk"
include: "rules/alpaca.smk"
include: "rules/benchmarks.smk"
include: "rules/perturb.smk"
include: "rules/interpolate.smk"
include: "rules/theory.smk"
include: "rules/released_numbers.smk"
include: "rules/aggregate.smk"
include: "rules/draw.smk"


rule all_figures:
    default_target: True
    input:
        targets.check_first(),
        [f"results/figures/{p}/{f}.pdf" for p, f in targets.targets("figures", here=True)],
    localrule: True


rule all_tables:
    input:
        [f"results/tables/{p}/{t}.md" for p, t in targets.targets("tables", here=True)],
    localrule: True


for kind, suffix in (("figures", "pdf"), ("tables", "md")):
    for paper in config[kind]:

        rule:
            name:
                f"{paper}_{kind}"
            input:
                [
                    f"results/{kind}/{p}/{target}.{suffix}"
                    for p, target in targets.targets(kind)
                    if p == paper
                ],
            localrule: True


# `snakemake fig05`, `snakemake table3`: the first paper's targets by their own names, others' with the
# paper before it.
for kind, suffix in (("figures", "pdf"), ("tables", "md")):
    for paper, target in targets.targets(kind):

        rule:
            name:
                target if paper == "overtrained" else f"{paper}_{target}"
            input:
                f"results/{kind}/{paper}/{target}.{suffix}",
            localrule: True

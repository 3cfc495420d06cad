"""overtrain: "Overtrained Language Models Are Harder to Fine-Tune" as a reproducible pipeline.

snakemake -n all_figures                           what the paper's scale would run
snakemake --profile profiles/demo all_figures      everything, small, on two CPU cores
snakemake --profile slurm all_figures              on a cluster
snakemake fig05                                    one figure and only what it needs
snakemake amuro_char_figures                       those of one paper
"""

import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27.1")
sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

import main
from overtrain import PipelineError
from overtrain.config.files import check_profile, load
from overtrain.planning import calibration
from overtrain.planning.asked import Ask
from overtrain.planning.hours import Hours

try:
    from overtrain.configuration import checked  # finds the kinds of figures, and may refuse one

    given, files = workflow.config_settings, workflow.overwrite_configfiles
    check_profile(sys.argv, files)
    main.check_unlock(sys.argv)
    layers = load(Path(workflow.basedir), given.overwrite_config, files, given.config)
    targets = checked(layers.config, layers.paper_task_sets)
    ask = Ask(targets.catalogue, calibration.read())
except PipelineError as error:
    sys.exit(f"error: {error}")

config = layers.config  # what the scripts of jobs see
catalogue = targets.catalogue
if workflow.is_main_process:
    print(layers.told(), file=sys.stderr)
    for line in catalogue.absent.values():
        print(f"left out of all_figures and all_tables: {line}", file=sys.stderr)
    if line := ask.beyond_limit():
        print(line, file=sys.stderr)

NAMES = "corpus model checkpoint task recipe run paper figure table experiment source suite prompts judge encoder projector"


wildcard_constraints:
    **dict.fromkeys(NAMES.split(), r"[A-Za-z0-9][A-Za-z0-9_.\-]*"),


# Tuned weights are large: a limit on disk_mb holds for all jobs together (profiles/slurm, profiles/gpu).
resource_scopes:
    disk_mb="global",


# Slurm's early signal (profiles/slurm) reaches a script's shell, too, which must wait while the script saves.
if "SLURM_JOB_ID" in os.environ:
    shell.prefix("set -euo pipefail; trap : TERM; ")


# In the order data flows.
for stage in """
    sources corpora tasks download encoders pretrain finetune finetune_instruct finetune_vision evaluate alpaca
    evaluate_vision evaluate_task evaluate_programs benchmarks perturb interpolate theory released_numbers hours aggregate draw
    """.split():

    include: f"rules/{stage}.smk"


onstart:
    main.begin(workflow)


onsuccess:
    main.end(workflow)


onerror:
    main.end(workflow, failed=True)


rule all_figures:
    default_target: True
    input:
        targets.check_first(),
        targets.files("figures", here=True),
    localrule: True


rule all_tables:
    input:
        targets.files("tables", here=True),
    localrule: True


# `snakemake fig05`, `snakemake table3`, `snakemake amuro_char_figures`
for alias, files in targets.aliases().items():

    rule:
        name:
            alias
        input:
            files,
        localrule: True

"""Rule finetune: every run of a sweep, stacked; snapshots of the weights, and what training measured."""

import json
from pathlib import Path

from overtrain import job

with job.logged(snakemake.log[0]):
    from overtrain import measurements
    from overtrain.finetune import Machine, Recipe, finetune
    from overtrain.sweep import Sweep

    sweep = Sweep(snakemake)
    recipe = Recipe.from_config(snakemake.wildcards.recipe, json.loads(snakemake.params.config))
    rows = finetune(
        sweep.checkpoint,
        sweep.task,
        sweep.kind,
        recipe,
        Machine(sweep.memory, sweep.batch_tokens),
        Path(snakemake.output.runs),
        sweep.identity,
        sweep.device,
    )
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

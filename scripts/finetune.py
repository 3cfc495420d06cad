"""Rule finetune: every run of a sweep, stacked; its snapshots and what training measured."""

import json
from pathlib import Path

from overtrain.measuring.sweep import Sweep
from overtrain.records import job, measurements
from overtrain.training.finetune import Machine, Recipe, finetune

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    config = json.loads(snakemake.params.config)
    rows = finetune(
        sweep.checkpoint,
        sweep.task,
        config["task"],
        Recipe.from_config(snakemake.wildcards.recipe, config["recipe"]),
        Machine(sweep.memory, sweep.batch_tokens),
        Path(snakemake.output.runs),
        sweep.identity,
        sweep.device,
    )
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

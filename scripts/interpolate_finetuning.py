"""Rule interpolate_finetuning: the loss along the change by fine-tuning, and to second order."""

from pathlib import Path

from overtrain import job
from overtrain.directions import fine_tuning_direction
from overtrain.sweep import Sweep

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    run, direction = fine_tuning_direction(sweep.checkpoint, Path(snakemake.input.runs))
    sweep.measure_along(direction, run.identity())

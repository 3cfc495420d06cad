"""Rule interpolate_finetuning: the loss along the change by fine-tuning, and to second order."""

from pathlib import Path

from overtrain.measuring.directions import fine_tuning_direction
from overtrain.measuring.sweep import Sweep
from overtrain.records import job

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    run, direction = fine_tuning_direction(sweep.checkpoint, Path(snakemake.input.runs))
    sweep.measure_along(direction, run.identity())

"""Rule evaluate_id: a sweep's snapshots and their base on the task's validation and test splits."""

from pathlib import Path

from overtrain.measuring.sweep import Sweep
from overtrain.model.losses import TaskSplit
from overtrain.records import job, measurements

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    kind = sweep.task_settings["kind"]
    scores = {
        split: TaskSplit(sweep.task, split, kind, sweep.encoder, sweep.context).score
        for split in ("validation", "test")
    }
    rows = sweep.measure("id", scores)
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

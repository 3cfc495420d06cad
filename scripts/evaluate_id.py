"""Rule evaluate_id: a sweep's snapshots and their base on the task's validation and test splits."""

from pathlib import Path

from overtrain import job, measurements
from overtrain.evaluate import TaskSplit
from overtrain.sweep import Sweep

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    rows = []
    for split in ("validation", "test"):
        data = TaskSplit(
            sweep.task, split, sweep.task_settings["kind"], sweep.encoder, sweep.context
        )
        rows += sweep.measure("id", split, data.score)
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

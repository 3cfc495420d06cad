"""Rule evaluate_id: a sweep's snapshots and their base on the task's validation and test splits."""

from pathlib import Path

from overtrain import job

with job.logged(snakemake.log[0]):
    from overtrain import measurements
    from overtrain.evaluate import TaskSplit
    from overtrain.sweep import Sweep

    sweep = Sweep(snakemake)
    splits = {
        s: TaskSplit(sweep.task, s, sweep.kind, sweep.encoder, sweep.context)
        for s in ("validation", "test")
    }
    rows = []
    for split, data in splits.items():
        rows += sweep.measure("id", split, lambda model: data.score(model, sweep.batch_tokens))
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

"""Rule prepare_task: train, validation and test of one task as parquet, with a manifest."""

from job import Job
from overtrain.data import tasks
from overtrain.hub import sources

with Job(snakemake) as job:
    task = job.wildcards.task
    config = sources.pin(job.catalogue, "tasks", task, job.slice)
    tasks.prepare(task, config, job.output.manifest.parent, job.origin())

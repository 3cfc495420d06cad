"""Rule prepare_task: train, validation and test of one task as parquet, with a manifest."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.data import tasks
from overtrain.hub import sources
from overtrain.records import job

with job.logged(snakemake.log[0]):
    folder = Path(snakemake.output.manifest).parent
    task, config = snakemake.wildcards.task, json.loads(snakemake.params.config)
    config = sources.pin(catalogue_of(snakemake.config), "tasks", task, config)
    tasks.prepare(task, config, folder, job.origin(snakemake, {}))

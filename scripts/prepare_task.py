"""Rule prepare_task: train, validation and test of one task as parquet, with a manifest."""

import json
from pathlib import Path

from overtrain import job, tasks

with job.logged(snakemake.log[0]):
    folder = Path(snakemake.output.manifest).parent
    config = json.loads(snakemake.params.config)
    tasks.prepare(snakemake.wildcards.task, config, folder, job.origin(snakemake, {}))

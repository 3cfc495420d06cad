"""Rule prepare_task: train, validation and test of one task as parquet, with a manifest."""

import json
from pathlib import Path

from overtrain import job, sources, tasks

with job.logged(snakemake.log[0]):
    folder = Path(snakemake.output.manifest).parent
    config = json.loads(snakemake.params.config)
    key = f"tasks.{snakemake.wildcards.task}.source"
    config["source"] = sources.pin(snakemake.input.sources, key, config["source"])
    tasks.prepare(snakemake.wildcards.task, config, folder, job.origin(snakemake, {}))

"""Rule prepare_image_task: conversations about images as parquet, and their images in one zip."""

import shutil

from job import STATE, Job
from overtrain.data import image_chat
from overtrain.hub import sources

with Job(snakemake) as job:
    task, work = job.wildcards.task, STATE / "images" / job.wildcards.task
    config = sources.pin(job.catalogue, "tasks", task, job.slice)
    folder = job.output.manifest.parent
    image_chat.prepare(task, config, folder, work, job.threads, job.origin())
    shutil.rmtree(work, ignore_errors=True)

"""Rule prepare_image_task: conversations about images as parquet, and their images in one zip."""

import shutil

from job import STATE, Job
from overtrain.data import image_chat
from overtrain.hub import sources

with Job(snakemake) as job:
    task, output, work = job.wildcards.task, job.output, STATE / "images" / job.wildcards.task
    config = sources.pin(job.catalogue, "tasks", task, job.slice)
    place = (output.manifest.parent, output.images)
    image_chat.prepare(task, config, *place, work, job.threads, job.origin())
    shutil.rmtree(work, ignore_errors=True)

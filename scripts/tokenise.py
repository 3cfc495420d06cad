"""Rule tokenise: token shards of a part's source files. Needs no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: compute nodes have none

from job import STATE, Job
from overtrain.data import parts

with Job(snakemake) as job:
    work = STATE / "shards" / job.wildcards.corpus / job.wildcards.part
    parts.tokenise(job.slice, job.input.texts, job.output.shards, work, job.threads)

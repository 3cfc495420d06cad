"""Rule tokenise: token shards of a part's source files. Needs no network."""

from job import STATE, Job
from overtrain.data import parts
from overtrain.hub.client import stay_offline

stay_offline()
with Job(snakemake) as job:
    work = STATE / "shards" / job.wildcards.corpus / job.wildcards.part
    parts.tokenise(job.slice, job.input.texts, job.output.shards, work, job.threads)

"""Rule prepare_prompts: the prompts that instruction-tuned models are compared on."""

from pathlib import Path

from job import Job
from overtrain.data import prompts
from overtrain.hub import sources
from overtrain.records.provenance import sha256

with Job(snakemake) as job:
    name = job.wildcards.prompts
    settings = sources.pin(job.catalogue, "prompts", name, job.slice)
    origin = job.origin({str(path): sha256(path) for path in job.input.conversations})
    prompts.prepare(name, settings, Path("results/tasks"), job.output.prompts, origin)

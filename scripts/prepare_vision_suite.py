"""Rule prepare_vision_suite: questions and images of a suite, with a manifest of what they are."""

from job import Job
from overtrain.hub import sources
from overtrain.measuring import vision_suites

with Job(snakemake) as job:
    name = job.wildcards.suite
    suite = sources.pin(job.catalogue, "vision_suites", name, job.slice)
    vision_suites.prepare(name, suite, job.output.suite, job.origin())

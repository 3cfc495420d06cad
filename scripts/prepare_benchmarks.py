"""Rule prepare_benchmarks: data and prompts of a suite, with a manifest of what they are."""

from job import Job
from overtrain.hub import sources
from overtrain.measuring import benchmarks

with Job(snakemake) as job:
    name = job.wildcards.suite
    suite = sources.pin(job.catalogue, "benchmark_suites", name, job.slice)
    benchmarks.prepare(name, suite, job.output.suite, job.origin())

"""Rule prepare_benchmarks: data and prompts of a suite, with a manifest of what they are."""

import json
from pathlib import Path

from overtrain.configuration import catalogue_of
from overtrain.hub import sources
from overtrain.measuring import benchmarks
from overtrain.records import job

with job.logged(snakemake.log[0]):
    name, folder = snakemake.wildcards.suite, Path(snakemake.output.suite)
    suite = json.loads(snakemake.params.config)
    suite = sources.pin(catalogue_of(snakemake.config), "benchmark_suites", name, suite)
    benchmarks.prepare(name, suite, folder, job.origin(snakemake, {}))

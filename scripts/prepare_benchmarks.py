"""Rule prepare_benchmarks: data and prompts of a suite, with a manifest of what they are."""

import json
from pathlib import Path

from overtrain import benchmarks, job

with job.logged(snakemake.log[0]):
    suite = json.loads(snakemake.params.config)
    folder = Path(snakemake.output.suite)
    benchmarks.prepare(snakemake.wildcards.suite, suite, folder, job.origin(snakemake, {}))

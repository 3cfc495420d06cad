"""Rule aggregate: the rows of a figure, with where each came from, and what they support."""

import json
from pathlib import Path

from overtrain.figures import statistics
from overtrain.figures.aggregate import aggregate
from overtrain.records import job

with job.logged(snakemake.log[0]):
    config = json.loads(snakemake.params.config)
    files = [Path(path) for path in snakemake.input.measurements]
    output = Path(snakemake.output.aggregate)
    rows = aggregate(files, config["rows"], output, job.origin(snakemake, {}))
    statistics.write(rows, config["statistics"], Path(snakemake.output.statistics))

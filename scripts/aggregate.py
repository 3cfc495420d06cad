"""Rule aggregate: one table of the rows that a figure is made of, with where each came from."""

import json
from pathlib import Path

from overtrain import job
from overtrain.aggregate import aggregate

with job.logged(snakemake.log[0]):
    config = json.loads(snakemake.params.config)
    files = [Path(path) for path in snakemake.input.measurements]
    output = Path(snakemake.output.aggregate)
    aggregate(files, config["plot"], config["only"], output, job.origin(snakemake, {}))

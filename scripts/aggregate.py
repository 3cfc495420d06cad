"""Rule aggregate: one table of the rows that a figure is made of, with where each came from."""

import json
from pathlib import Path

from overtrain import job
from overtrain.aggregate import aggregate

with job.logged(snakemake.log[0]):
    plot = json.loads(snakemake.params.config)["plot"]
    files = [Path(path) for path in snakemake.input.measurements]
    aggregate(files, plot, Path(snakemake.output.aggregate), job.origin(snakemake, {}))

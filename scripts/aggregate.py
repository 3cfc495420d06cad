"""Rule aggregate: one table of the rows that a figure is made of, with where each came from."""

from pathlib import Path

from overtrain import job
from overtrain.aggregate import aggregate

with job.logged(snakemake.log[0]):
    settings = snakemake.config["figures"][snakemake.wildcards.paper][snakemake.wildcards.figure]
    files = [Path(path) for path in snakemake.input.measurements]
    aggregate(files, settings, Path(snakemake.output.aggregate), job.origin(snakemake, {}))

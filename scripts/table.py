"""Rule table: one table of settings or of measurements as CSV, Markdown and LaTeX."""

import json
from pathlib import Path

from overtrain.figures import tables
from overtrain.figures.aggregate import read_optional
from overtrain.records import job
from overtrain.records.provenance import write_json

with job.logged(snakemake.log[0]):
    data, hashes, sources = read_optional(snakemake.input.aggregate)
    tables.write(json.loads(snakemake.params.config), Path(snakemake.output.csv), data)
    write_json(Path(snakemake.output.provenance), job.origin(snakemake, hashes) | sources)

"""Rule figure: the aggregate of one figure as PDF and PNG, with the drawn numbers as CSV."""

import json
from pathlib import Path

from overtrain.figures import plots
from overtrain.figures.aggregate import read_optional
from overtrain.records import job
from overtrain.records.provenance import write_json

with job.logged(snakemake.log[0]):
    data, hashes, sources = read_optional(snakemake.input.aggregate)
    plots.draw(data, json.loads(snakemake.params.config), Path(snakemake.output.pdf))
    write_json(Path(snakemake.output.provenance), job.origin(snakemake, hashes) | sources)

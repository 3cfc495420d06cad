"""Rule figure: the aggregate of one figure as PDF and PNG, with the drawn numbers as CSV."""

import json
from pathlib import Path

from overtrain import job, measurements, plots
from overtrain.provenance import sha256, write_json

with job.logged(snakemake.log[0]):
    aggregate = Path(snakemake.input.aggregate)
    settings = json.loads(snakemake.params.config)
    plots.draw(measurements.read(aggregate).to_pandas(), settings, Path(snakemake.output.pdf))
    origin = job.origin(snakemake, {"aggregate": sha256(aggregate)})
    sources = measurements.read_provenance(aggregate)["sources"]
    write_json(Path(snakemake.output.provenance), origin | {"sources": sources})

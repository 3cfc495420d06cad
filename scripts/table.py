"""Rule table: one table of settings or of measurements as CSV, Markdown and LaTeX."""

import json
from pathlib import Path

from overtrain import job, measurements, tables
from overtrain.provenance import sha256, write_json

with job.logged(snakemake.log[0]):
    data, hashes, sources = None, {}, {}
    for path in map(Path, snakemake.input.aggregate):
        data = measurements.read(path).to_pandas()
        hashes = {"aggregate": sha256(path)}
        sources = {"sources": measurements.read_provenance(path)["sources"]}
    tables.write(json.loads(snakemake.params.config), Path(snakemake.output.csv), data)
    write_json(Path(snakemake.output.provenance), job.origin(snakemake, hashes) | sources)

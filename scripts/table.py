"""Rule table: one table of settings as CSV, Markdown and LaTeX."""

import json
from pathlib import Path

from overtrain import job, tables
from overtrain.provenance import write_json

with job.logged(snakemake.log[0]):
    tables.write(json.loads(snakemake.params.config), Path(snakemake.output.csv))
    write_json(Path(snakemake.output.provenance), job.origin(snakemake, {}))

"""Rule simulate_theory: one experiment of section 4 on two-layer linear networks."""

import json
from pathlib import Path

from overtrain.records import job, measurements
from overtrain.studies.theory import simulate

with job.logged(snakemake.log[0]):
    rows = simulate(snakemake.wildcards.experiment, json.loads(snakemake.params.config))
    origin = job.origin(snakemake, {})
    measurements.write(rows, Path(snakemake.output.measurements), origin)

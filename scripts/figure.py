"""Rule figure: the aggregate of one figure as PDF and PNG, with the drawn numbers as CSV."""

from job import Job
from overtrain.figures import plots
from overtrain.figures.aggregate import read_optional
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    data, hashes, sources = read_optional(job.input.aggregate)
    plots.draw(data, job.slice, job.output.pdf)
    write_json(job.output.provenance, job.origin(hashes) | sources)

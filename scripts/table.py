"""Rule table: one table of settings or of measurements as CSV, Markdown and LaTeX."""

from job import Job
from overtrain.figures import tables
from overtrain.figures.aggregate import read_optional
from overtrain.records.provenance import write_json

with Job(snakemake) as job:
    data, hashes, sources = read_optional(job.input.aggregate)
    tables.write(job.slice, job.output.csv, data)
    write_json(job.output.provenance, job.origin(hashes) | sources)

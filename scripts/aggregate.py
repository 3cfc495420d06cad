"""Rule aggregate: the rows of a figure, with where each came from, and what they support."""

from job import Job
from overtrain.figures import statistics
from overtrain.figures.aggregate import aggregate

with Job(snakemake) as job:
    own, paths = job.slice, job.input.measurements
    rows = aggregate(paths, own["rows"], job.output.aggregate, job.origin())
    statistics.write(rows, own["statistics"], job.output.statistics)

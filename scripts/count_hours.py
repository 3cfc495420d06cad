"""Rule count_hours: GPU-hours of a study's runs, expected and, of jobs that have run, spent."""

from job import Job
from overtrain.planning.hours import rows_of

with Job(snakemake) as job:
    job.write(rows_of(job.slice, job.wildcards.counted == "spent"))

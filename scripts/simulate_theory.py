"""Rule simulate_theory: one experiment of section 4 on two-layer linear networks."""

from job import Job
from overtrain.studies.theory import simulate

with Job(snakemake) as job:
    job.write(simulate(job.wildcards.experiment, job.slice))

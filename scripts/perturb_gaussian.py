"""Rule perturb_gaussian: a checkpoint under Gaussian noise of several sizes, on held-out text."""

from overtrain import job
from overtrain.perturb import perturb_gaussian
from overtrain.sweep import Sweep

with job.logged(snakemake.log[0]):
    Sweep(snakemake).measure_under_noise(perturb_gaussian)

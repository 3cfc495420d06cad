"""Rule measure_sharpness: Tr(H Sigma_init) of a checkpoint, and its sensitivity to small noise."""

from overtrain import job
from overtrain.sharpness import sharpness
from overtrain.sweep import Sweep

with job.logged(snakemake.log[0]):
    Sweep(snakemake).measure_under_noise(sharpness)

"""Rule measure_sharpness: Tr(H Sigma_init) of a checkpoint, and its sensitivity to small noise."""

from functools import partial

import torch

from overtrain.measuring.sharpness import sharpness
from overtrain.measuring.sweep import Sweep
from overtrain.records import job

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    torch.set_float32_matmul_precision("highest")  # TF32 would round the smallest noise away
    sweep.measure_under_noise(partial(sharpness, width=sweep.width))

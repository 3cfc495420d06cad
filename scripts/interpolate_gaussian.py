"""Rule interpolate_gaussian: the loss along one draw of Gaussian noise, and to second order."""

import json

from overtrain.measuring.perturb import gaussian_direction
from overtrain.measuring.sweep import Sweep
from overtrain.records import job

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    seed = json.loads(snakemake.params.config)["seed"]
    direction = gaussian_direction(sweep.checkpoint, snakemake.wildcards.model, seed)
    sweep.measure_along(direction, {"seed": seed})

"""Rule perturb_gaussian: a checkpoint under Gaussian noise of several sizes, on held-out text."""

import json
from functools import partial

from overtrain.measuring.perturb import perturb_gaussian, perturb_released
from overtrain.measuring.sweep import Sweep
from overtrain.records import job

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    documented = json.loads(snakemake.params.config).get("initialisation")
    if documented:
        sweep.measure_under_noise(partial(perturb_released, documented=documented))
    else:
        sweep.measure_under_noise(partial(perturb_gaussian, width=sweep.width))

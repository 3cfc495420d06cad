"""Rule perturb_gaussian: a checkpoint under Gaussian noise of several sizes, on held-out text."""

import json
from pathlib import Path

from overtrain import job

with job.logged(snakemake.log[0]):
    from overtrain import measurements
    from overtrain.evaluate import held_out_text
    from overtrain.perturb import perturb_gaussian
    from overtrain.sweep import Sweep

    sweep = Sweep(snakemake)
    config = json.loads(snakemake.params.config)
    text = held_out_text(Path(snakemake.input.corpus), sweep.context, config["tokens"])
    rows = perturb_gaussian(
        sweep.checkpoint,
        text,
        config["gammas"],
        config["seeds"],
        sweep.width,
        sweep.batch_tokens,
        sweep.identity | {"evaluation": "c4", "split": "held_out"},
        sweep.device,
    )
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

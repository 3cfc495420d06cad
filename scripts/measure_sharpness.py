"""Rule measure_sharpness: Tr(H Sigma_init) of a checkpoint, and its sensitivity to small noise."""

import json
from pathlib import Path

from overtrain import job, measurements
from overtrain.evaluate import held_out_text
from overtrain.sharpness import sharpness
from overtrain.sweep import Sweep

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    config = json.loads(snakemake.params.config)
    rows = sharpness(
        sweep.checkpoint,
        held_out_text(Path(snakemake.input.corpus), sweep.context, config["tokens"]),
        config["gammas"],
        config["seeds"],
        sweep.width,
        sweep.batch_tokens,
        sweep.identity | {"evaluation": "c4", "split": "held_out"},
        sweep.device,
    )
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

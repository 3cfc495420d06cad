"""Rule evaluate_c4: a sweep's snapshots and their base on held-out pre-training text."""

import json
from pathlib import Path

from overtrain import job

with job.logged(snakemake.log[0]):
    from overtrain import measurements
    from overtrain.evaluate import held_out_text, language_modelling
    from overtrain.sweep import Sweep

    sweep = Sweep(snakemake)
    config = json.loads(snakemake.params.config)
    text = held_out_text(Path(snakemake.input.corpus), sweep.context, config["tokens"])
    rows = sweep.measure(
        "c4", "held_out", lambda m: language_modelling(m, text, sweep.batch_tokens)
    )
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

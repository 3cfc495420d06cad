"""Rule evaluate_c4: a sweep's snapshots and their base on held-out pre-training text."""

import json
from functools import partial
from pathlib import Path

from overtrain.measuring.sweep import Sweep
from overtrain.model.losses import held_out_text, language_modelling
from overtrain.records import job, measurements

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    tokens = json.loads(snakemake.params.config)["tokens"]
    text = held_out_text(Path(snakemake.input.corpus), sweep.context, tokens)
    rows = sweep.measure("c4", {"held_out": partial(language_modelling, examples=text)})
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

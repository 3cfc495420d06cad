"""Rule evaluate_c4_instruct: a tuned run and its base on held-out pre-training text."""

import json
from pathlib import Path

from overtrain import job, measurements, tuned
from overtrain.corpora import Corpus
from overtrain.evaluate import held_out_text

with job.logged(snakemake.log[0]):
    own = tuned.Measured(snakemake)
    config, corpus = json.loads(snakemake.params.config), Path(snakemake.input.corpus)
    text = held_out_text(corpus, config["window"], config["tokens"])
    measured = {snakemake.input.checkpoint: own.base, snakemake.input.model: own.identity}
    batch_tokens = snakemake.config["evaluations"]["batch_tokens"]
    rows = []
    for model, identity in measured.items():
        rows += tuned.held_out_rows(Path(model), text, batch_tokens, identity, own.device)
    origin = own.origin({"corpus": Corpus(corpus).manifest["sha256"]})
    measurements.write(rows, Path(snakemake.output.measurements), origin)
    tuned.finish(snakemake.wildcards)  # the last of the run's chain

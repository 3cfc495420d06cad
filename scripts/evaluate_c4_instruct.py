"""Rules evaluate_c4_instruct, evaluate_c4_base: a tuned run, or a checkpoint, on held-out text."""

import json
from pathlib import Path

from overtrain.data.corpora import Corpus
from overtrain.measuring import tuned
from overtrain.model.losses import held_out_text
from overtrain.records import job, measurements

with job.logged(snakemake.log[0]):
    own = tuned.Measured(snakemake)
    config, corpus = json.loads(snakemake.params.config), Path(snakemake.input.corpus)
    text = held_out_text(corpus, config["window"], config["tokens"])
    batch_tokens = snakemake.config["evaluations"]["batch_tokens"]
    rows = tuned.held_out_rows(own.model, text, batch_tokens, own.identity, own.device)
    origin = own.origin({"corpus": Corpus(corpus).manifest["sha256"]})
    measurements.write(rows, Path(snakemake.output.measurements), origin)
    if own.run:  # the last of its chain
        tuned.finish(snakemake.wildcards)

"""Rule generate_responses: what one instruction-tuned run answers to the prompts."""

import json
from pathlib import Path

import torch

from overtrain.data import prompts
from overtrain.measuring import generate, responses, tuned
from overtrain.records import job
from overtrain.records.provenance import sha256

with job.logged(snakemake.log[0]):
    own = tuned.Measured(snakemake)
    config, path = json.loads(snakemake.params.config), Path(snakemake.input.prompts)
    texts, outputs = [row["instruction"] for row in prompts.read(path)], None
    if tuned.diverged(own.model):
        print("the run diverged: no responses")
    else:
        batch_size = snakemake.config["evaluations"]["alpaca"]["batch_size"]
        how = generate.Decoding(config["max_new_tokens"], batch_size, config["backend"])
        outputs = generate.respond(own.model, texts, how, torch.device(own.device))
    origin = own.origin({"prompts": sha256(path)})
    responses.write(texts, outputs, Path(snakemake.output.responses), origin)

"""Rule generate_responses: what one instruction-tuned run answers to the prompts."""

import json
from pathlib import Path

import torch

from overtrain import generate, job, prompts, responses
from overtrain.provenance import sha256

with job.logged(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    config = json.loads(snakemake.params.config)
    run, prompts_file = Path(snakemake.input.run), Path(snakemake.input.prompts)
    texts = [row["instruction"] for row in prompts.read(prompts_file)]
    gpu = snakemake.resources.get("gpu", 0)
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    if (run / "diverged.json").exists():
        print("the run diverged: no responses")
        outputs = None
    else:
        batch_size = snakemake.config["evaluations"]["alpaca"]["batch_size"]
        how = generate.Decoding(config["max_new_tokens"], batch_size, config["backend"])
        outputs = generate.respond(run, texts, how, device)
    data = {"prompts": sha256(prompts_file), "run": sha256(run / "provenance.json")}
    path = Path(snakemake.output.responses)
    responses.write(texts, outputs, path, job.origin(snakemake, data, device.type))

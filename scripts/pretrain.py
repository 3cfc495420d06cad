"""Rule pretrain: one model to one token budget, from its last state if there is one."""

import json
from pathlib import Path

from overtrain import job

with job.logged(snakemake.log[0]):
    import torch
    from overtrain.corpora import Corpus
    from overtrain.pretrain import Machine, Pretraining, pretrain

    torch.set_num_threads(snakemake.threads)
    limits = snakemake.config["resources"]["pretrain"]
    gpus = min(snakemake.resources.get("gpu", 0), torch.cuda.device_count())
    if gpus < limits["gpu"]:
        print(f"warning: the rule asks for {limits['gpu']} GPUs; {gpus} are visible")
    machine = Machine(
        micro_batch=limits["micro_batch"], state_seconds=600, threads=snakemake.threads, gpus=gpus
    )
    corpus = Path(snakemake.input.corpus)
    device = torch.cuda.get_device_name() if gpus else "cpu"
    data = {"corpus": Corpus(corpus).manifest["sha256"]}
    pretrain(
        Pretraining.from_config(json.loads(snakemake.params.config)),
        machine,
        corpus,
        Path(snakemake.output.checkpoint),
        Path("results/state", snakemake.wildcards.model, snakemake.wildcards.checkpoint),
        job.origin(snakemake, data, device),
    )

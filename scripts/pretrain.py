"""Rule pretrain: one model to one token budget, from its last state if there is one."""

import json
from pathlib import Path

import torch

from overtrain.data.corpora import Corpus
from overtrain.model.allocator import keep_freed_memory
from overtrain.records import job
from overtrain.training.pretrain import Machine, Pretraining, pretrain

with job.logged(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    keep_freed_memory()
    limits = snakemake.config["resources"]["pretrain"]
    gpus = min(snakemake.resources.get("gpu", 0), torch.cuda.device_count())
    if gpus < limits["gpu"]:
        print(f"warning: the rule asks for {limits['gpu']} GPUs; {gpus} are visible")
    machine = Machine(limits["micro_batch"], 600, snakemake.threads, gpus)
    corpus = Path(snakemake.input.corpus)
    data = {"corpus": Corpus(corpus).manifest["sha256"]}
    pretrain(
        Pretraining.from_config(json.loads(snakemake.params.config)),
        machine,
        corpus,
        Path(snakemake.output.checkpoint),
        Path("results/state", snakemake.wildcards.model, snakemake.wildcards.checkpoint),
        job.origin(snakemake, data, torch.cuda.get_device_name() if gpus else "cpu"),
    )

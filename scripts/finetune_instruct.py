"""Rule finetune_instruct: one run of a released model on conversations, from its last state."""

import json
from pathlib import Path

import torch

from overtrain import job, measurements
from overtrain.catalogue import Catalogue
from overtrain.sft import Job, Machine, finetune_instruct
from overtrain.sweep import Sweep

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    w, config = snakemake.wildcards, json.loads(snakemake.params.config)
    resources = Catalogue(snakemake.config).sized("finetune_instruct", w.model)
    gpus = min(resources["gpu"], torch.cuda.device_count())
    if gpus < resources["gpu"]:
        print(f"warning: the rule asks for {resources['gpu']} GPUs; {gpus} are visible")
    rows = finetune_instruct(
        sweep.checkpoint,
        sweep.task,
        Job.from_config(config, model=w.model, task=w.task, recipe=w.recipe),
        Machine(
            resources["micro_batch"],
            resources["save_steps"],
            snakemake.threads,
            max(1, gpus),
            gpus > 0,
            sweep.batch_tokens,
        ),
        Path(snakemake.output.model),
        Path("results/state/sft", w.model, w.checkpoint, w.task, w.recipe, w.run),
        sweep.identity,
        sweep.origin(),
    )
    measurements.write(rows, Path(snakemake.output.measurements), sweep.origin())

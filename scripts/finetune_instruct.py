"""Rule finetune_instruct: one run of a released model on conversations, from its last state."""

import json
from pathlib import Path

import torch

from overtrain.configuration import catalogue_of
from overtrain.measuring.sweep import Sweep
from overtrain.measuring.tuned import state_of
from overtrain.records import job, measurements
from overtrain.training.instruct import Job, Machine, finetune_instruct, gpus_for

with job.logged(snakemake.log[0]):
    sweep = Sweep(snakemake)
    w, config = snakemake.wildcards, json.loads(snakemake.params.config)
    model = Path(snakemake.output.model)
    resources = catalogue_of(snakemake.config).sized("finetune_instruct", w.model).model_dump()
    gpus = gpus_for(resources["gpu"], torch.cuda.device_count())
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
        model,
        state_of(w),
        sweep.identity,
        sweep.origin(),
    )
    origin = json.loads((model / "provenance.json").read_text())  # of the training
    measurements.write(rows, Path(snakemake.output.measurements), origin)

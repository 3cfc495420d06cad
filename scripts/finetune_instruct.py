"""Rule finetune_instruct: one run of a released model on conversations, from its last state."""

import json

from job import TorchJob
from overtrain.records import measurements
from overtrain.training.instruct import Folders, Tuning, finetune_instruct

with TorchJob(snakemake) as job:
    w, model = job.wildcards, job.output.model
    rows = finetune_instruct(
        Tuning.from_config(job.slice, model=w.model, task=w.task, recipe=w.recipe),
        job.tuning_processes,
        Folders(job.input.checkpoint, job.input.train.parent, model, job.state),
        job.identity,
        job.origin(),
    )
    origin = json.loads((model / "provenance.json").read_text())  # of the training
    measurements.write(rows, job.output.measurements, origin)

"""Rule finetune_vision: one run of a released model on talk about images, from its last state."""

import json

from job import TorchJob
from overtrain.records import measurements
from overtrain.training.visual import Folders, Tuning, finetune_vision

with TorchJob(snakemake) as job:
    w, given, model = job.wildcards, job.input, job.output.model
    task = given.train.parent
    rows = finetune_vision(
        Tuning.of_run(job.slice, model=w.model, task=w.task, recipe=w.recipe),
        job.tuning_processes,
        Folders(
            given.checkpoint,
            given.encoder,
            given.projector,
            task,
            given.images,
            model,
            job.state,
        ),
        job.identity,
        job.origin(),
    )
    origin = json.loads((model / "provenance.json").read_text())  # of the training
    measurements.write(rows, job.output.measurements, origin)

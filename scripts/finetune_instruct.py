"""Rule finetune_instruct: one run of a released model on conversations, from its last state."""

import json

from job import TorchJob
from overtrain.records import measurements
from overtrain.training.instruct import Folders, Tuning, finetune_instruct
from overtrain.training.processes import Processes, gpus_for

with TorchJob(snakemake) as job:
    w, model = job.wildcards, job.output.model
    resources = job.catalogue.sized("finetune_instruct", w.model)
    gpus = gpus_for("finetune_instruct", resources.gpu, job.gpus)
    rows = finetune_instruct(
        Tuning.from_config(job.slice, model=w.model, task=w.task, recipe=w.recipe),
        Processes(
            resources.micro_batch,
            resources.state_minutes,
            job.threads,
            max(1, gpus),
            gpus > 0,
            job.catalogue.settings.evaluations.batch_tokens,
        ),
        Folders(job.input.checkpoint, job.input.train.parent, model, job.state),
        job.identity,
        job.origin(),
    )
    origin = json.loads((model / "provenance.json").read_text())  # of the training
    measurements.write(rows, job.output.measurements, origin)

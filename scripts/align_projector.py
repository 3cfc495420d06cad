"""Rule align_projector: a projector from an encoder to a released model, from its last state."""

from job import TorchJob
from overtrain.training.visual import Folders, Tuning, align_projector

with TorchJob(snakemake) as job:
    w, given = job.wildcards, job.input
    task, projector = given.train.parent, job.output.projector
    rows = align_projector(
        Tuning.of_projector(job.slice, model=w.model, recipe=w.recipe),
        job.tuning_processes,
        Folders(given.checkpoint, given.encoder, None, task, given.images, projector, job.state),
        job.identity,
        job.origin(),
    )
    job.write(rows)

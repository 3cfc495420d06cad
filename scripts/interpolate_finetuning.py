"""Rule interpolate_finetuning: the loss along the change by fine-tuning, and to second order."""

from job import TorchJob
from overtrain.measuring.directions import fine_tuning_direction, loss_along
from overtrain.measuring.stacks import Stacks
from overtrain.model.losses import held_out_text
from overtrain.model.olmo import read_architecture

with TorchJob(snakemake, "highest") as job:  # near lambda 0, TF32 rounds the change away
    base, config = job.input.checkpoint, job.slice
    run, direction = fine_tuning_direction(base, job.input.runs)
    text = held_out_text(job.input.corpus, read_architecture(base).context, config["tokens"])
    stacks = Stacks.within(job.room, base)
    identity = job.identity | run.identity() | {"evaluation": "c4", "split": "held_out"}
    job.write(loss_along(base, direction, config["lambdas"], text, stacks, identity))

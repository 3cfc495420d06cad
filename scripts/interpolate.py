"""Rules interpolate_gaussian, interpolate_finetuning: the loss along a direction, to second order.

The direction is a draw of noise or, where the rule has a sweep's runs, the change by fine-tuning.
"""

from job import TorchJob
from overtrain.measuring.directions import fine_tuning_direction, loss_along
from overtrain.measuring.perturb import gaussian_direction
from overtrain.measuring.stacks import Stacks
from overtrain.model.losses import held_out_text
from overtrain.model.olmo import read_architecture

with TorchJob(snakemake, "highest") as job:  # near lambda 0, TF32 rounds the change away
    base, config = job.input.checkpoint, job.slice
    if hasattr(job.input, "runs"):
        run, direction = fine_tuning_direction(base, job.input.runs)
        which = run.identity()
        job.reads_last("finetune", "runs")
    else:
        which = {"seed": config["seed"]}
        direction = gaussian_direction(base, job.wildcards.model, config["seed"])
    text = held_out_text(job.input.corpus, read_architecture(base).context, config["tokens"])
    stacks = Stacks.within(job.room, base)
    identity = job.identity | which | {"evaluation": "c4", "split": "held_out"}
    job.write(loss_along(base, direction, config["lambdas"], text, stacks, identity))

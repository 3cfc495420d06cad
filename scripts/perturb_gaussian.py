"""Rule perturb_gaussian: a checkpoint under Gaussian noise of several sizes, on held-out text."""

from job import TorchJob
from overtrain.measuring.perturb import Noise, perturb_gaussian, perturb_released
from overtrain.measuring.stacks import Stacks
from overtrain.model.losses import held_out_text
from overtrain.model.olmo import read_architecture

with TorchJob(snakemake) as job:
    base, config = job.input.checkpoint, job.slice
    noise = Noise(config["gammas"], config["seeds"])
    identity = job.identity | {"evaluation": "c4", "split": "held_out"}
    if documented := config.get("initialisation"):
        text = held_out_text(job.input.corpus, config["window"], config["tokens"])
        rows = perturb_released(base, text, noise, job.room, identity, documented)
    else:
        text = held_out_text(job.input.corpus, read_architecture(base).context, config["tokens"])
        rows = perturb_gaussian(base, text, noise, Stacks.within(job.room, base), identity)
    job.write(rows)

"""Rule measure_sharpness: Tr(H Sigma_init) of a checkpoint, and its sensitivity to small noise."""

from job import TorchJob
from overtrain.measuring.perturb import Noise
from overtrain.measuring.sharpness import sharpness
from overtrain.measuring.stacks import Stacks
from overtrain.model.losses import held_out_text
from overtrain.model.olmo import read_architecture

with TorchJob(snakemake, "highest") as job:  # TF32 would round the smallest noise away
    base, config = job.input.checkpoint, job.slice
    text = held_out_text(job.input.corpus, read_architecture(base).context, config["tokens"])
    stacks, noise = Stacks.within(job.room, base), Noise(config["gammas"], config["seeds"])
    identity = job.identity | {"evaluation": "c4", "split": "held_out"}
    job.write(sharpness(base, text, noise, stacks, identity))

"""Rule pretrain: one model to one token budget, from its last state if there is one."""

from job import TorchJob
from overtrain.training.pretrain import Pretraining, Workers, pretrain

with TorchJob(snakemake, "highest") as job:
    own = job.catalogue.settings.resources.pretrain
    pretrain(
        Pretraining.from_config(job.slice),
        Workers(own.micro_batch, own.state_minutes, job.threads, job.gpus),
        job.input.corpus,
        job.output.checkpoint,
        job.state,
        job.origin(),
    )

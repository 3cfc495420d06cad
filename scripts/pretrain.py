"""Rule pretrain: one model to one token budget, from its last state if there is one."""

from job import TorchJob
from overtrain.training.pretrain import Pretraining, Workers, pretrain

with TorchJob(snakemake, "highest") as job:
    micro_batch = job.catalogue.settings.resources.pretrain.micro_batch
    pretrain(
        Pretraining.from_config(job.slice),
        Workers(micro_batch, 600, job.threads, job.gpus),
        job.input.corpus,
        job.output.checkpoint,
        job.state,
        job.origin(),
    )

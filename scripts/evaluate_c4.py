"""Rule evaluate_c4: a sweep's snapshots and their base on held-out pre-training text."""

from functools import partial

from job import TorchJob
from overtrain.measuring.stacks import Stacks, measure_sweep
from overtrain.model.losses import held_out_text, language_modelling
from overtrain.model.olmo import read_architecture

with TorchJob(snakemake) as job:
    base = job.input.checkpoint
    text = held_out_text(job.input.corpus, read_architecture(base).context, job.slice["tokens"])
    scores = {"held_out": partial(language_modelling, examples=text)}
    stacks, identity = Stacks.within(job.room, base), job.identity | {"evaluation": "c4"}
    job.write(measure_sweep(base, job.input.runs, scores, stacks, identity))
    job.reads_last("finetune", "runs")

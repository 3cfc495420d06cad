"""Rule evaluate_id: a sweep's snapshots and their base on the task's validation and test splits."""

from job import TorchJob
from overtrain.data.tokenizer import load_encoder
from overtrain.measuring.stacks import Stacks, measure_sweep
from overtrain.model.losses import TaskSplit
from overtrain.model.olmo import read_architecture

with TorchJob(snakemake) as job:
    base, task = job.input.checkpoint, job.wildcards.task
    kind = job.catalogue.settings.tasks[task].kind
    encoder, context = load_encoder(base), read_architecture(base).context
    scores = {
        split: TaskSplit(job.input.test.parent, split, kind, encoder, context).score
        for split in ("validation", "test")
    }
    stacks, identity = Stacks.within(job.room, base), job.identity | {"evaluation": "id"}
    job.write(measure_sweep(base, job.input.runs, scores, stacks, identity))

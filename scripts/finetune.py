"""Rule finetune: every run of a sweep, stacked; its snapshots and what training measured."""

from job import TorchJob
from overtrain.training.finetune import Recipe, Task, finetune
from overtrain.training.sweep_states import SweepStates

with TorchJob(snakemake) as job:
    task = Task(job.input.train.parent, **job.slice["task"])
    recipe = Recipe.from_config(job.wildcards.recipe, job.slice["recipe"])
    base, runs = job.input.checkpoint, job.output.runs
    minutes = job.catalogue.settings.resources.finetune.state_minutes
    states = SweepStates(job.state, job.origin()["data"], minutes)
    job.write(finetune(base, task, recipe, job.room, runs, job.identity, states))
